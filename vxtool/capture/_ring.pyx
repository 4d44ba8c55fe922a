# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False, cdivision=True
"""The walk through a ring of packets (TPACKET_V3) that the kernel shares with us: from its blocks to one index entry per frame.

Knows how the kernel lays out blocks and frames (<linux/if_packet.h>, Documentation/networking/packet_mmap.rst); opens no socket and maps no memory.
No frame is copied: the index points into the ring. Every read is checked against its block, although it is the kernel that wrote it.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

import numpy as np

from vxtool.capture.frames import INDEX

cdef extern from *:
    """
    /* The status word passes a block from one side to the other: whoever takes it must see all that was written before. */
    static inline unsigned int vx_status(const unsigned char *at) { return __atomic_load_n((const unsigned int *)at, __ATOMIC_ACQUIRE); }
    static inline void vx_give_back(unsigned char *at) { __atomic_store_n((unsigned int *)at, 0u, __ATOMIC_RELEASE); }
    """
    uint32_t vx_status(const uint8_t *at) noexcept nogil
    void vx_give_back(uint8_t *at) noexcept nogil

cdef struct IndexEntry:  # frames.INDEX
    uint64_t frame
    int64_t ts
    int64_t offset
    uint32_t caplen
    uint32_t wirelen
    uint32_t interface
    uint16_t vantage
    uint16_t linktype

cdef struct Block:  # struct tpacket_block_desc, without its times
    uint32_t version
    uint32_t offset_to_priv
    uint32_t status
    uint32_t frames
    uint32_t first  # offset of the first frame, from the beginning of the block
    uint32_t length

cdef struct Header:  # struct tpacket3_hdr
    uint32_t next  # offset of the next frame from this one; 0 in the last
    uint32_t sec
    uint32_t nsec
    uint32_t snaplen  # bytes that are here
    uint32_t len  # bytes the frame has
    uint32_t status
    uint16_t mac  # where its bytes begin, from this header
    uint16_t net
    uint32_t rxhash
    uint32_t vlan_tci
    uint16_t vlan_tpid
    uint16_t padding
    uint8_t more[8]

cdef enum:
    STATUS = 8  # of Block.status, in a block
    USER = 1  # TP_STATUS_USER: the block is ours
    VLAN_VALID = 1 << 4  # TP_STATUS_VLAN_VALID
    TPID_VALID = 1 << 6  # TP_STATUS_VLAN_TPID_VALID
    ADDRESSES = 12  # bytes of the two MAC addresses, which a VLAN tag follows
    TAG = 4
    LINKTYPE_ETHERNET = 1
    NS = 1_000_000_000  # in a second

TAG_ROOM = TAG
"""Bytes that must be free before each frame (socket option PACKET_RESERVE): a VLAN tag that the kernel has taken off is put back into its place."""


@cython.final
cdef class RingScanner:
    """The blocks of one ring, in the order in which the kernel fills them.

    `memory` holds the ring from `start` on and may hold others; offsets in the index count from its beginning. `frames` counts those handed out and
    `held` the blocks that were scanned and not given back: the kernel drops frames when it finds none of its own.
    """

    cdef readonly uint64_t frames
    cdef readonly Py_ssize_t held
    cdef uint8_t[::1] memory
    cdef Py_ssize_t start, size, blocks, next, oldest
    cdef uint32_t interface
    cdef uint16_t vantage

    def __init__(self, uint8_t[::1] memory, *, Py_ssize_t start, Py_ssize_t size, Py_ssize_t blocks, uint32_t interface, uint16_t vantage):
        if size < <Py_ssize_t> (sizeof(Block) + sizeof(Header)) or blocks < 1 or start < 0 or start + size * blocks > memory.shape[0] or size % 8:
            raise ValueError(f"{blocks} blocks of {size} bytes from {start} on do not fit {memory.shape[0]} bytes")
        self.memory = memory
        self.start = start
        self.size = size
        self.blocks = blocks
        self.interface = interface
        self.vantage = vantage

    def scan(self, Py_ssize_t most):
        """Index the next blocks that are ready, at most so many: (index, ends), where the frames of the i-th block are index[ends[i - 1]:ends[i]].

        ValueError when a block makes no sense: then nothing that follows in this ring can be trusted.
        """
        cdef list ends = []
        cdef Py_ssize_t at, total = 0, count = 0, done = 0
        cdef Block block
        while count < most and self.held + count < self.blocks:
            at = self.start + (self.next + count) % self.blocks * self.size
            if not vx_status(&self.memory[at + STATUS]) & USER:
                break
            memcpy(&block, &self.memory[at], sizeof(Block))
            if block.frames > self.size // <Py_ssize_t> sizeof(Header):
                raise ValueError(f"a block of {self.size} bytes claims {block.frames} frames")
            total += block.frames
            count += 1
            ends.append(total)
        index = np.empty(total, INDEX)
        cdef IndexEntry[::1] out = index
        for end in ends:
            self.index_block(self.start + self.next * self.size, out[done:end])
            done = end
            self.next = (self.next + 1) % self.blocks
            self.held += 1
        self.frames += total
        return index, ends

    cdef int index_block(self, Py_ssize_t at, IndexEntry[::1] out) except -1:
        cdef Py_ssize_t here, end = at + self.size, offset, count = out.shape[0], i
        cdef uint32_t caplen, wirelen
        cdef Block block
        cdef Header header
        memcpy(&block, &self.memory[at], sizeof(Block))
        here = at + block.first
        with nogil:
            for i in range(count):
                if here < at or here > end - <Py_ssize_t> sizeof(Header):
                    raise ValueError(f"frame {i + 1} of {count} would begin {here - at} bytes into a block of {self.size}")
                memcpy(&header, &self.memory[here], sizeof(Header))
                offset = here + header.mac
                caplen = header.snaplen
                wirelen = header.len
                if offset + <Py_ssize_t> caplen > end:
                    raise ValueError(f"frame {i + 1} of {count} would end {offset + caplen - end} bytes behind its block")
                if header.status & VLAN_VALID and caplen >= ADDRESSES and header.mac >= sizeof(Header) + TAG:
                    self.put_tag_back(offset, <uint16_t> header.vlan_tci, header.vlan_tpid if header.status & TPID_VALID else <uint16_t> 0x8100)
                    offset -= TAG
                    caplen += TAG
                    wirelen += TAG
                out[i].frame = 0  # whoever puts frames of several rings in order numbers them
                out[i].ts = <int64_t> header.sec * NS + header.nsec
                out[i].offset = offset
                out[i].caplen = caplen
                out[i].wirelen = wirelen
                out[i].interface = self.interface
                out[i].vantage = self.vantage
                out[i].linktype = LINKTYPE_ETHERNET
                if header.next < sizeof(Header) and i + 1 < count:
                    raise ValueError(f"frame {i + 1} of {count} says that the next one begins {header.next} bytes behind it")
                here += header.next
        return 0

    cdef int put_tag_back(self, Py_ssize_t offset, uint16_t tci, uint16_t tpid) except -1 nogil:
        """The addresses move to the front by four bytes, into the room reserved there, and the tag goes between them and the rest."""
        cdef uint8_t *frame = &self.memory[offset - TAG]
        cdef uint8_t *last = &self.memory[offset + ADDRESSES - 1]
        memmove(frame, frame + TAG, ADDRESSES)
        frame[ADDRESSES] = tpid >> 8
        frame[ADDRESSES + 1] = tpid & 0xFF
        frame[ADDRESSES + 2] = tci >> 8
        frame[ADDRESSES + 3] = tci & 0xFF
        return 0

    def release(self, Py_ssize_t blocks):
        """Give the oldest blocks back to the kernel, which writes over them at once: nothing may look at their frames any more."""
        if blocks < 0 or blocks > self.held:
            raise ValueError(f"{blocks} of {self.held} blocks cannot be given back")
        for _ in range(blocks):
            vx_give_back(&self.memory[self.start + self.oldest * self.size + STATUS])
            self.oldest = (self.oldest + 1) % self.blocks
            self.held -= 1
