# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False, cdivision=True
"""Queries off a socket and replies onto it, many at a time, for what is remembered of the records.

Knows system calls and the form of a message; knows no name, and decides nothing: what the table has no answer to is handed to the resolver
(resolver.py), which also says what is in the table. Every read and write is checked against its buffer: messages come from strangers.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

import os

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    cdef struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen
        void *msg_control
        size_t msg_controllen
        int msg_flags
    cdef struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    enum:
        MSG_DONTWAIT
        MSG_TRUNC
    int recvmmsg(int fd, mmsghdr *messages, unsigned int count, int flags, void *timeout)
    int sendmmsg(int fd, mmsghdr *messages, unsigned int count, int flags)

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    uint16_t ntohs(uint16_t number)

cdef enum:
    BATCH = 64  # messages of one system call
    ROOM = 4096  # bytes of a query that is read, and of a reply that is made here
    HEADER = 12
    OPT = 11  # bytes of an OPT record without its options
    SMALLEST = 512  # bytes of a reply that every client takes
    MOST = 4000  # records that are shuffled here


cdef class Batch:
    """Buffers for one batch; any number of sockets may share them, one after the other."""

    cdef mmsghdr asked[BATCH]
    cdef mmsghdr told[BATCH]
    cdef iovec asked_at[BATCH]
    cdef iovec told_at[BATCH]
    cdef sockaddr_in peers[BATCH]
    cdef uint8_t[::1] queries
    cdef uint8_t[::1] replies
    cdef uint16_t[::1] order
    cdef object memory
    cdef uint64_t random

    def __cinit__(self):
        self.memory = (bytearray(BATCH * ROOM), bytearray(BATCH * ROOM), bytearray(2 * MOST))
        self.queries, self.replies, self.order = self.memory[0], self.memory[1], memoryview(self.memory[2]).cast("H")
        self.random = int.from_bytes(os.urandom(8), "little") | 1
        cdef int place
        memset(self.asked, 0, sizeof(self.asked))
        memset(self.told, 0, sizeof(self.told))
        for place in range(BATCH):
            self.asked_at[place].iov_base = &self.queries[place * ROOM]
            self.asked_at[place].iov_len = ROOM
            self.asked[place].msg_hdr.msg_iov = &self.asked_at[place]
            self.asked[place].msg_hdr.msg_iovlen = 1
            self.asked[place].msg_hdr.msg_name = &self.peers[place]

    def serve(self, int fd, dict table not None):
        """Answers what waits at a UDP socket, at most 64 queries, from a table (resolver.Table).

        Returns the others, each with its sender. Replies that the kernel has no room for are lost, as datagrams may be. Does not wait.
        """
        cdef int place, length, ready = 0, sent = 0, count
        cdef list others = []
        for place in range(BATCH):
            self.asked[place].msg_hdr.msg_namelen = sizeof(sockaddr_in)
        count = recvmmsg(fd, self.asked, BATCH, MSG_DONTWAIT, NULL)
        for place in range(count):
            if self.asked[place].msg_hdr.msg_flags & MSG_TRUNC:
                continue  # no query is that long
            length = self.reply(place, <int>self.asked[place].msg_len, table)
            if length < 0:
                others.append((bytes(self.queries[place * ROOM : place * ROOM + <int>self.asked[place].msg_len]), self.peer(place)))
                continue
            self.told_at[ready].iov_base = &self.replies[place * ROOM]
            self.told_at[ready].iov_len = length
            self.told[ready].msg_hdr.msg_iov = &self.told_at[ready]
            self.told[ready].msg_hdr.msg_iovlen = 1
            self.told[ready].msg_hdr.msg_name = &self.peers[place]
            self.told[ready].msg_hdr.msg_namelen = sizeof(sockaddr_in)
            ready += 1
        while sent < ready:
            count = sendmmsg(fd, &self.told[sent], ready - sent, MSG_DONTWAIT)
            if count > 0:
                sent += count
            elif errno != EINTR:
                sent += 1  # this one cannot be sent; the next one perhaps can
        return others

    cdef int reply(self, int place, int length, dict table) except -2:
        """Writes the reply to one query; its length, or -1: that is for others to answer."""
        cdef const uint8_t[::1] query = self.queries[place * ROOM : place * ROOM + length]
        cdef uint8_t[::1] reply = self.replies[place * ROOM : place * ROOM + ROOM]
        cdef int at = HEADER, end, most = SMALLEST, size, count, kept, number, chosen
        cdef uint16_t swapped
        cdef const uint8_t[::1] records
        # A query: QR and opcode are 0; one question, at most one more record, no answers and authorities.
        if length < HEADER + 5 or query[2] & 0xF8 or query[4] or query[5] != 1 or query[6] or query[7] or query[8] or query[9] or query[10] or query[11] > 1:
            return -1
        while at < length and query[at]:
            if query[at] > 63:
                return -1
            at += 1 + query[at]
        end = at + 5
        if end > length or at - HEADER > 254:
            return -1
        if query[11]:
            # OPT (RFC 6891): the root's name, type 41, and in place of a class how many bytes the client takes.
            if end + OPT > length or query[end] or query[end + 1] or query[end + 2] != 41:
                return -1
            if end + OPT + (query[end + 9] << 8 | query[end + 10]) > length:
                return -1
            most = max(SMALLEST, query[end + 3] << 8 | query[end + 4])
        known = table.get(bytes(query[HEADER:end]))
        if known is None:
            return -1
        size = known[1]
        count = len(<bytes>known[0]) // size if size else 0
        kept = min(count, (most - end) // size) if size else 0
        if count > MOST or end + kept * size > ROOM:
            return -1
        reply[:end] = query[:end]
        reply[2] = 0x80 | query[2] & 0x01 | (0x02 if kept < count else 0)  # QR, RD, TC
        reply[3] = 0x80 | query[3] & 0x10  # RA, CD
        reply[6], reply[7] = kept >> 8, kept & 0xFF
        reply[10] = reply[11] = 0
        if kept:
            records = <bytes>known[0]
            for number in range(count):
                self.order[number] = number
            at = end
            for number in range(kept):
                if number + 1 < count:
                    chosen = number + <int>(self.draw() % <uint64_t>(count - number))
                    swapped = self.order[chosen]
                    self.order[chosen] = self.order[number]
                    self.order[number] = swapped
                chosen = self.order[number] * size
                reply[at : at + size] = records[chosen : chosen + size]
                at += size
        return end + kept * size

    cdef uint64_t draw(self) noexcept:
        """xorshift64*: no secret, only an order of records."""
        self.random ^= self.random >> 12
        self.random ^= self.random << 25
        self.random ^= self.random >> 27
        return self.random * <uint64_t>2685821657736338717 >> 32

    cdef tuple peer(self, int place):
        cdef const uint8_t *address = <const uint8_t *>&self.peers[place].sin_addr.s_addr
        return f"{address[0]}.{address[1]}.{address[2]}.{address[3]}", ntohs(self.peers[place].sin_port)
