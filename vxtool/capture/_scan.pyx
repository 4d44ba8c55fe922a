# cython: language_level=3, boundscheck=True, wraparound=False, initializedcheck=False, cdivision=True
"""The record scan: from the bytes of a pcap or pcapng file to one index entry per frame.

Knows how records and blocks follow one another, and what a plausible one looks like; refuses to know where bytes come from and what frames contain.
Every read goes through `word` or `words`, which check both ends against the buffer: captures come from strangers.

A scan stops where it cannot go on by itself and says why (`Stop`). What to do then (read more, read an interface description, look for the next record
that makes sense) is decided in reader.py, a few times per file.
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

import numpy as np

cdef struct IndexEntry:  # frames.INDEX
    uint64_t frame
    int64_t ts
    int64_t offset
    uint32_t caplen
    uint32_t wirelen
    uint32_t interface
    uint16_t vantage
    uint16_t linktype

cdef struct Clock:  # one interface of the current pcapng section
    uint64_t small  # below it, ns = ticks * multiply and nothing can overflow
    uint64_t multiply  # ns = ticks * multiply / divide, for decimal resolutions
    uint64_t divide  # 0: so fine that 2**64 ticks are less than a nanosecond
    int64_t seconds  # if_tsoffset
    uint32_t shift  # binary resolution: 2**-shift seconds
    uint32_t binary
    uint32_t snaplen
    uint32_t position  # in Frames.interfaces
    uint32_t linktype
    uint32_t unused

CLOCK = np.dtype(
    [("small", "<u8"), ("multiply", "<u8"), ("divide", "<u8"), ("seconds", "<i8"), ("shift", "<u4"), ("binary", "<u4"), ("snaplen", "<u4"),
     ("position", "<u4"), ("linktype", "<u4"), ("unused", "<u4")]
)

cpdef enum Stop:
    MORE  # the record at this position is not all there yet
    FULL  # no room in the index
    SECTION  # pcapng: a whole Section Header Block, for Python to read
    INTERFACE  # pcapng: a whole Interface Description Block, for Python to read
    LENGTH  # a record or block claims an impossible length
    NONSENSE  # pcap: a header of odd values, and nothing plausible behind it
    TRAILER  # pcapng: the length at the end of the block is not the one at its beginning
    OVERFULL  # pcapng: a frame claims more bytes than its block has
    STRANGER  # pcapng: a frame of an interface that its section does not describe
    FOUND  # search only: a place where records begin again
    NOTHING  # search only: nothing of the kind up to the end

FRAME_LIMIT = 16 << 20
"""No frame is longer: BIG TCP and loopback reach 512 KiB; libpcap and Wireshark draw the line at 16 MiB for blocks, too."""

cdef enum:
    _FRAME_LIMIT = 16 << 20
    _BLOCK_LIMIT = (16 << 20) + (64 << 10)  # a frame and its options
    LOOKAHEAD = 2 << 20  # bytes that a search may want to see behind a candidate
    LINKS = 4  # plausible pcap headers in a row that need no further proof
    WEEK = 7 * 24 * 3600
    MODERN = 1 << 28  # seconds: 1978, and more than any length
    NS = 1_000_000_000  # in a second

cdef enum Kind:  # pcapng block types
    IDB = 1
    PB = 2
    SPB = 3
    NRB = 4
    ISB = 5
    EPB = 6
    DSB = 10
    CUSTOM = 0xBAD
    CUSTOM_LOCAL = 0x40000BAD
    SHB = 0x0A0D0D0A
    MAGIC = 0x1A2B3C4D

cdef int64_t LATEST_S = 9_223_372_035  # seconds; one more could overflow 64 bits of nanoseconds


cdef inline uint32_t swap(uint32_t value) noexcept nogil:
    return (value >> 24) | ((value >> 8) & 0xFF00) | ((value << 8) & 0xFF0000) | (value << 24)


cdef inline uint32_t word(const uint8_t[::1] data, Py_ssize_t at, bint big) except? 0x1BADB002 nogil:
    """Four bytes as a number; IndexError unless all four are in the buffer."""
    cdef uint32_t value
    cdef const uint8_t *last = &data[at + 3]
    memcpy(&value, &data[at], 4)
    return swap(value) if big else value


cdef inline int words(const uint8_t[::1] data, Py_ssize_t at, int count, bint big, uint32_t *into) except -1 nogil:
    """`count` numbers of four bytes; IndexError unless all of them are in the buffer."""
    cdef const uint8_t *last = &data[at + 4 * count - 1]
    cdef int i
    memcpy(into, &data[at], 4 * count)
    if big:
        for i in range(count):
            into[i] = swap(into[i])
    return 0


cdef inline int64_t away(int64_t a, int64_t b) noexcept nogil:
    return a - b if a > b else b - a


# --------------------------------------------------------------------------------------------------------------------
# pcap: a 24-byte file header, then records of a 16-byte header (seconds, fraction, captured length, length) and bytes.
# https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/
# --------------------------------------------------------------------------------------------------------------------


@cython.final
cdef class PcapScanner:
    """The records of a pcap file. `frames` counts those handed out, and so numbers the next one."""

    cdef readonly uint64_t frames
    cdef readonly Py_ssize_t header
    cdef readonly uint32_t limit
    cdef bint big
    cdef uint32_t tick  # nanoseconds
    cdef uint32_t second  # ticks
    cdef uint16_t linktype
    cdef int64_t latest  # seconds of the last record handed out; -1: none yet

    def __init__(self, *, bint big, bint nano, Py_ssize_t header, uint16_t linktype, uint32_t limit):
        self.big = big
        self.tick = 1 if nano else 1000
        self.second = 1_000_000_000 if nano else 1_000_000
        self.header = header
        self.linktype = linktype
        self.limit = min(limit, <uint32_t> _FRAME_LIMIT)
        self.latest = -1

    cdef inline void emit(self, IndexEntry *entry, Py_ssize_t offset, uint32_t sec, uint32_t frac, uint32_t caplen, uint32_t wirelen) noexcept nogil:
        self.frames += 1
        self.latest = sec
        entry.frame = self.frames
        # A fraction of a second or more is added as it stands: so do tcpdump and tshark.
        entry.ts = <int64_t> sec * NS + <int64_t> frac * self.tick
        entry.offset = offset
        entry.caplen = caplen
        entry.wirelen = wirelen
        entry.interface = 0
        entry.vantage = 0
        entry.linktype = self.linktype

    def scan(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end, IndexEntry[::1] out, Py_ssize_t count, bint eof):
        """Index the records in data[start:end], from out[count] on. Returns (count, position, Stop)."""
        cdef Py_ssize_t at = start, after, capacity = out.shape[0]
        cdef uint32_t sec, frac, caplen, wirelen
        cdef uint32_t header[4]
        cdef int stop, verdict
        with nogil:
            while True:
                if count >= capacity:
                    stop = FULL
                    break
                if end - at < self.header:
                    stop = MORE
                    break
                words(data, at, 4, self.big, header)
                sec, frac, caplen, wirelen = header[0], header[1], header[2], header[3]
                if caplen > self.limit:
                    stop = LENGTH
                    break
                after = at + self.header + caplen
                if after > end:
                    stop = MORE
                    break
                if frac >= self.second or caplen > wirelen or wirelen > _FRAME_LIMIT or wirelen == 0:
                    # Real files have such records, and so has every stretch of bytes that is not a record: the next header tells.
                    verdict = self.followed(data, after, end, eof, sec)
                    if verdict > 0 and wirelen < caplen:  # it may have swallowed others: do records begin where it ends by its other length?
                        verdict = 1 - self.begins(data, at + self.header + wirelen, end, eof)
                        if verdict > 1:
                            verdict = -1
                    if verdict <= 0:
                        stop = NONSENSE if verdict == 0 else MORE
                        break
                self.emit(&out[count], at + self.header, sec, frac, caplen, wirelen)
                count += 1
                at = after
        return count, at, stop

    cdef int followed(self, const uint8_t[::1] data, Py_ssize_t at, Py_ssize_t end, bint eof, uint32_t sec) except -2 nogil:
        """Does something acceptable come at `at`? 1 yes, 0 no, -1 cannot tell yet."""
        cdef uint32_t caplen
        if end - at < self.header:
            return 1 if eof else -1
        caplen = word(data, at + 8, self.big)
        if caplen > self.limit or away(word(data, at, self.big), sec) > WEEK:
            return 0
        # A hole filled with zeros looks like empty frames of 1970, one after the other.
        return 1 if (sec | caplen | word(data, at + 4, self.big) | word(data, at + 12, self.big)) != 0 else 0

    def take(self, const uint8_t[::1] data, Py_ssize_t at, Py_ssize_t after, IndexEntry[::1] out, Py_ssize_t count):
        """Index the one record at `at`, whose bytes end at `after` whatever its length field says. Returns the new count: the old one if there is no room for its header."""
        cdef uint32_t header[4]
        if after - at < self.header or after > data.shape[0]:
            return count
        words(data, at, 4, self.big, header)
        self.emit(&out[count], at + self.header, header[0], header[1], <uint32_t> (after - at - self.header), header[3])
        return count + 1

    cdef int begins(self, const uint8_t[::1] data, Py_ssize_t at, Py_ssize_t end, bint eof) except -2 nogil:
        """Does a chain of plausible records begin at `at`? 1 yes, 0 no, -1 more bytes are needed to tell."""
        cdef bint final = eof or end - at >= LOOKAHEAD
        cdef Py_ssize_t here = at
        cdef uint32_t sec, caplen, wirelen
        cdef int64_t first = 0
        cdef bint near = True
        cdef int links = 0
        while links < LINKS:
            if here == end and eof and links:
                return 1 if near else 0
            if end - here < self.header:
                if not final:
                    return -1
                return 1 if links > 1 and near else 0
            caplen = word(data, here + 8, self.big)
            if caplen == 0 or caplen > self.limit:
                return 0
            wirelen = word(data, here + 12, self.big)
            if wirelen < caplen or wirelen > _FRAME_LIMIT or word(data, here + 4, self.big) >= self.second:
                return 0
            sec = word(data, here, self.big)
            if links == 0:
                first = sec
                near = self.latest < 0 or away(first, self.latest) <= WEEK
            elif away(sec, first) > WEEK:
                return 0
            links += 1
            here += self.header + caplen
        # A clock may have been set in between. Frames full of one small number look like a chain, too, but one of 1970.
        return 1 if near or first > MODERN else 0

    def search(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end, bint eof):
        """The first place in data[start:end] where records begin again: (position, FOUND), (position to go on from, MORE) or (end, NOTHING)."""
        cdef Py_ssize_t at = start
        cdef int verdict = 0
        with nogil:
            while end - at >= self.header:
                verdict = self.begins(data, at, end, eof)
                if verdict != 0:
                    break
                at += 1
        if verdict > 0:
            return at, FOUND
        return (end, NOTHING) if eof else (at, MORE)


# --------------------------------------------------------------------------------------------------------------------
# pcapng: blocks of type, length, body, length again; all multiples of four bytes.
# https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/
# --------------------------------------------------------------------------------------------------------------------


cdef int64_t added(int64_t seconds, int64_t ns, int64_t offset) noexcept nogil:
    """seconds (0 to LATEST_S) and ns, plus an offset in seconds, in nanoseconds; a time that does not fit becomes the last whole second that does."""
    seconds += max(-2 * LATEST_S, min(LATEST_S, offset))
    if seconds >= LATEST_S:
        return LATEST_S * NS
    return -LATEST_S * NS if seconds <= -LATEST_S else seconds * NS + ns


cdef int64_t nanoseconds(Clock *clock, uint64_t ticks) noexcept nogil:
    """Ticks of an interface's clock since 1970, rounded down. No step overflows, whatever the resolution (2**-127 is legal)."""
    cdef uint64_t fine, high, low
    cdef uint32_t shift = clock.shift
    if ticks < clock.small:
        return <int64_t> (ticks * clock.multiply)
    if not clock.binary:
        if clock.divide > 1:
            fine = ticks // clock.divide
            return added(<int64_t> (fine // <uint64_t> NS), <int64_t> (fine % <uint64_t> NS), clock.seconds)
        if clock.divide == 0:
            return added(0, 0, clock.seconds)
        # A coarse clock: 10**9 is a multiple of its ticks per second.
        fine = <uint64_t> NS // clock.multiply
        high = ticks // fine
        return added(<int64_t> min(high, <uint64_t> LATEST_S), <int64_t> (ticks % fine * clock.multiply), clock.seconds)
    high = ticks >> shift if shift < 64 else 0
    fine = ticks - (high << shift) if shift < 64 else ticks
    if shift < 32:
        low = (fine * <uint64_t> NS) >> shift
    else:
        # fine * 10**9 needs 94 bits: in two halves, of which the lower one only gives its carry.
        low = (fine >> 32) * <uint64_t> NS + ((<uint64_t> <uint32_t> fine * <uint64_t> NS) >> 32)
        low = low >> (shift - 32) if shift - 32 < 64 else 0
    return added(<int64_t> min(high, <uint64_t> LATEST_S), <int64_t> low, clock.seconds)


@cython.final
cdef class PcapngScanner:
    """The blocks of a pcapng file. Sections and interfaces are read in Python and told here; all other blocks are passed without a stop."""

    cdef readonly uint64_t frames
    cdef readonly Py_ssize_t interfaces  # of the current section
    cdef readonly bint big
    cdef bint deaf
    cdef Clock[::1] clocks
    cdef Clock *clock  # the first of clocks; only ever indexed below `interfaces`

    def __init__(self):
        self.clocks = np.zeros(8, CLOCK)
        self.clock = &self.clocks[0]

    def section(self, *, bint big, bint deaf=False):
        """A new section begins, and no interface is known any more. `deaf`: its version is not ours, pass over all of it."""
        self.big = big
        self.deaf = deaf
        self.interfaces = 0

    def interface(self, *, uint8_t resolution, int64_t offset, uint32_t snaplen, uint32_t position, uint16_t linktype):
        """The next interface of the section: if_tsresol as it stands, if_tsoffset in seconds, and its place in Frames.interfaces."""
        if self.interfaces == self.clocks.shape[0]:
            self.clocks = np.concatenate([np.asarray(self.clocks), np.zeros(self.interfaces, CLOCK)])
            self.clock = &self.clocks[0]
        cdef Clock *clock = &self.clocks[self.interfaces]
        digits: object = resolution & 0x7F
        multiply: object = 10 ** max(0, 9 - digits)
        clock.binary = resolution >> 7
        clock.shift = digits
        clock.multiply = multiply
        clock.divide = 10 ** max(0, digits - 9) if digits - 9 <= 19 else 0
        clock.seconds = offset
        clock.small = 2**63 // multiply if digits <= 9 and not clock.binary and offset == 0 else 0
        clock.snaplen = snaplen
        clock.position = position
        clock.linktype = linktype
        self.interfaces += 1

    cdef int emit(self, const uint32_t *block, Py_ssize_t at, Py_ssize_t stop, IndexEntry *entry, bint clamp) noexcept nogil:
        """Index the frame of a block: its first words, its place, and where its body ends. Returns 0 or the Stop that forbids it."""
        cdef bint simple = block[0] == SPB
        cdef Py_ssize_t room = stop - at - (12 if simple else 28)
        cdef uint32_t number = 0, caplen, wirelen
        cdef Clock *clock
        if block[0] == EPB:
            number = block[2]
        elif block[0] == PB:  # an interface of 16 bits, then a count of drops
            number = block[2] >> 16 if self.big else block[2] & 0xFFFF
        if number >= self.interfaces:
            return STRANGER
        clock = self.clock + number
        if simple:
            wirelen = block[2]
            caplen = wirelen if clock.snaplen == 0 else min(wirelen, clock.snaplen)
        else:
            caplen = block[5]
            wirelen = block[6]
        if caplen > room:
            if not clamp:
                return OVERFULL
            caplen = <uint32_t> room
        self.frames += 1
        entry.frame = self.frames
        entry.ts = 0 if simple else nanoseconds(clock, (<uint64_t> block[3] << 32) | block[4])  # a simple packet has no time
        entry.offset = stop - room
        entry.caplen = caplen
        entry.wirelen = wirelen
        entry.interface = clock.position
        entry.vantage = 0
        entry.linktype = <uint16_t> clock.linktype
        return 0

    cdef int order(self, const uint8_t[::1] data, Py_ssize_t at) except -2 nogil:
        """Byte order of the Section Header Block at `at`: 0 little, 1 big, -1 its magic number is wrong."""
        if word(data, at + 8, False) == MAGIC:
            return 0
        return 1 if word(data, at + 8, True) == MAGIC else -1

    cdef inline int shape(self, const uint8_t[::1] data, Py_ssize_t at, uint32_t kind, Py_ssize_t *length, bint *big) except -1 nogil:
        """Length and byte order of the block whose first 12 bytes are at `at`. Returns 0, or LENGTH when the length is impossible."""
        cdef Py_ssize_t least = 12
        cdef int order
        big[0] = self.big
        if kind == SHB:
            order = self.order(data, at)
            if order < 0:
                return LENGTH
            big[0] = order == 1
            least = 28
        elif kind == EPB or kind == PB:
            least = 32
        elif kind == IDB:
            least = 20
        elif kind == SPB:
            least = 16
        length[0] = word(data, at + 4, big[0])
        return LENGTH if length[0] < least or length[0] & 3 or length[0] > _BLOCK_LIMIT else 0

    def scan(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end, IndexEntry[::1] out, Py_ssize_t count, bint eof):
        """Index the blocks in data[start:end], from out[count] on. Returns (count, position, Stop)."""
        cdef Py_ssize_t at = start, capacity = out.shape[0], length = 0
        cdef uint32_t kind
        cdef uint32_t block[7]
        cdef bint big = False
        cdef int stop
        with nogil:
            while True:
                if count >= capacity:
                    stop = FULL
                    break
                if end - at < 12:
                    stop = MORE
                    break
                kind = word(data, at, self.big)
                stop = self.shape(data, at, kind, &length, &big)
                if stop:
                    break
                if end - at < length:
                    stop = MORE
                    break
                if word(data, at + length - 4, big) != length:
                    stop = TRAILER
                    break
                if kind == SHB:
                    stop = SECTION
                    break
                if not self.deaf:
                    if kind == EPB or kind == SPB or kind == PB:
                        words(data, at, 3 if kind == SPB else 7, big, block)
                        stop = self.emit(block, at, at + length - 4, &out[count], False)
                        if stop:
                            break
                        count += 1
                    elif kind == IDB:
                        stop = INTERFACE
                        break
                at += length
        return count, at, stop

    def take(self, const uint8_t[::1] data, Py_ssize_t at, Py_ssize_t after, IndexEntry[::1] out, Py_ssize_t count):
        """Index the frame of the one block at `at`, whose body ends at `after` whatever its lengths say. Returns the new count: the old one if there is no frame in it."""
        cdef uint32_t kind
        cdef uint32_t block[7]
        if after - at < 12 or after > data.shape[0] or self.deaf:
            return count
        kind = word(data, at, self.big)
        if kind == SPB or ((kind == EPB or kind == PB) and after - at >= 28):
            words(data, at, 3 if kind == SPB else 7, self.big, block)
            if self.emit(block, at, after, &out[count], True) == 0:
                return count + 1
        return count

    cdef int begins(self, const uint8_t[::1] data, Py_ssize_t at, Py_ssize_t end, bint eof) except -2 nogil:
        """Does a known block with equal lengths at both ends begin at `at`, and another one, or the file's end, after it? 1 yes, 0 no, -1 cannot tell yet."""
        cdef bint final = eof or end - at >= LOOKAHEAD
        cdef Py_ssize_t length = 0
        cdef uint32_t kind
        cdef bint big = False
        cdef int links = 0
        while links < 2:
            if at == end and eof:
                return links
            if end - at < 12:
                return links if final else -1
            kind = word(data, at, self.big)
            if not (IDB <= kind <= EPB or kind == DSB or kind == CUSTOM or kind == CUSTOM_LOCAL or kind == SHB):
                return 0
            if self.shape(data, at, kind, &length, &big):
                return 0
            if end - at < length:
                return links if final else -1
            if word(data, at + length - 4, big) != length:
                return 0
            if kind == SHB:
                return 1
            if (kind == EPB or kind == PB) and word(data, at + 20, big) > length - 32:
                return 0
            links += 1
            at += length
        return 1

    def search(self, const uint8_t[::1] data, Py_ssize_t start, Py_ssize_t end, bint eof):
        """The first place in data[start:end] where blocks begin again: (position, FOUND), (position to go on from, MORE) or (end, NOTHING)."""
        cdef Py_ssize_t at = start
        cdef int verdict = 0
        with nogil:
            while end - at >= 12:
                verdict = self.begins(data, at, end, eof)
                if verdict != 0:
                    break
                at += 1
        if verdict > 0:
            return at, FOUND
        return (end, NOTHING) if eof else (at, MORE)


# --------------------------------------------------------------------------------------------------------------------
# Writing: frames and their index back to records and blocks, little-endian, nanoseconds.
# --------------------------------------------------------------------------------------------------------------------


cdef inline int store(uint8_t[::1] out, Py_ssize_t at, uint32_t value) except -1 nogil:
    cdef uint8_t *last = &out[at + 3]
    memcpy(&out[at], &value, 4)  # as it is: INDEX, too, needs a little-endian machine
    return 0


cdef inline int copy(uint8_t[::1] out, Py_ssize_t at, const uint8_t[::1] data, Py_ssize_t start, uint32_t length) except -1 nogil:
    if start < 0 or length > data.shape[0] - start or length > out.shape[0] - at:
        raise IndexError("an index entry points outside its buffer")
    if length:
        memcpy(&out[at], &data[start], length)
    return 0


def pack_pcap(const uint8_t[::1] data, const IndexEntry[::1] index):
    """Records of a pcap file with nanoseconds, as one array of bytes."""
    cdef Py_ssize_t i, at = 0, total = 0
    for i in range(index.shape[0]):
        total += 16 + <Py_ssize_t> index[i].caplen
    packed = np.empty(total, np.uint8)
    cdef uint8_t[::1] out = packed
    with nogil:
        for i in range(index.shape[0]):
            store(out, at, <uint32_t> (index[i].ts // NS))
            store(out, at + 4, <uint32_t> (index[i].ts % NS))
            store(out, at + 8, index[i].caplen)
            store(out, at + 12, index[i].wirelen)
            copy(out, at + 16, data, index[i].offset, index[i].caplen)
            at += 16 + <Py_ssize_t> index[i].caplen
    return packed


def pack_pcapng(const uint8_t[::1] data, const IndexEntry[::1] index, const uint32_t[::1] numbers):
    """Enhanced Packet Blocks with nanoseconds, as one array of bytes; numbers[i] is the interface of the i-th frame."""
    cdef Py_ssize_t i, at = 0, total = 0, padded
    for i in range(index.shape[0]):
        total += 32 + ((<Py_ssize_t> index[i].caplen + 3) & ~3)
    packed = np.empty(total, np.uint8)
    cdef uint8_t[::1] out = packed
    with nogil:
        for i in range(index.shape[0]):
            padded = (<Py_ssize_t> index[i].caplen + 3) & ~3
            store(out, at, EPB)
            store(out, at + 4, <uint32_t> (32 + padded))
            store(out, at + 8, numbers[i])
            store(out, at + 12, <uint32_t> (<uint64_t> index[i].ts >> 32))
            store(out, at + 16, <uint32_t> index[i].ts)
            store(out, at + 20, index[i].caplen)
            store(out, at + 24, index[i].wirelen)
            if padded:
                store(out, at + 24 + padded, 0)  # padding; frame bytes come over it
            copy(out, at + 28, data, index[i].offset, index[i].caplen)
            store(out, at + 28 + padded, <uint32_t> (32 + padded))
            at += 32 + padded
    return packed
