# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True, initializedcheck=False
"""The walk from the link header to the innermost ports: bytes and an index in, rows out.

Knows protocols, never files. Every byte is read through a typed memoryview with its bounds check on: captures come from strangers.

Each layer works between two bounds. `end` is where the captured bytes of the enclosing layer end, `wend` where they would end had everything been captured.
A header that does not fit in `end` but would fit in `wend` was cut by the snap length; one that does not fit in `wend` either is missing from the frame itself.
"""

cimport cython
from libc.string cimport memcpy

ctypedef unsigned char u8
ctypedef unsigned short u16
ctypedef unsigned int u32
ctypedef unsigned long long u64
ctypedef long long i64

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #error "vxtool's rows are little-endian"
    #endif
    static inline uint16_t vx_bswap16(uint16_t x) { return (uint16_t)((x << 8) | (x >> 8)); }
    static inline uint32_t vx_bswap32(uint32_t x) { return ((uint32_t)vx_bswap16((uint16_t)x) << 16) | vx_bswap16((uint16_t)(x >> 16)); }
    /* Through a pointer the C library's own are called, which use wide stores; the compiler would put `rep stos` in their place, 30 ns a row. */
    static void *(*volatile vx_clear)(void *, int, size_t) = memset;
    static void *(*volatile vx_copy)(void *, const void *, size_t) = memcpy;
    static inline uint64_t vx_bswap64(uint64_t x) { return ((uint64_t)vx_bswap32((uint32_t)x) << 32) | vx_bswap32((uint32_t)(x >> 32)); }
    """
    u16 bswap16 "vx_bswap16"(u16) nogil
    u32 bswap32 "vx_bswap32"(u32) nogil
    u64 bswap64 "vx_bswap64"(u64) nogil
    void *clear "vx_clear"(void *, int, size_t) noexcept nogil
    void *copy "vx_copy"(void *, const void *, size_t) noexcept nogil

# ---------------------------------------------------------------------------------------------------------------------------
# The row, field by field as columns.ROW has it.
# ---------------------------------------------------------------------------------------------------------------------------

cdef struct IndexEntry:
    u64 frame
    i64 ts
    i64 offset
    u32 caplen
    u32 wirelen
    u32 interface
    u16 vantage
    u16 linktype

cdef struct Headers:
    u64 eth_src
    u64 eth_dst
    u64 ip_src_hi
    u64 ip_src_lo
    u64 ip_dst_hi
    u64 ip_dst_lo
    u32 have
    u32 ip_id
    u32 ip_len
    u32 frag_offset
    u32 trailer
    u32 eth_offset
    u32 ip_offset
    u32 l4_offset
    u16 ethertype
    u16 vlan
    u16 vlan2
    u16 sport
    u16 dport
    u16 udp_len
    u16 checksum
    u8 vlan_tags
    u8 ip_version
    u8 ttl
    u8 tos
    u8 proto
    u8 frag
    u8 frag_more
    u8 df
    u8 checksum_class
    u8 ip_checksum_class

cdef struct Row:
    u64 frame
    i64 ts
    u32 caplen
    u32 wirelen
    u32 interface
    u16 vantage
    u16 linktype
    u64 have
    Headers outer
    Headers inner
    u64 arp_sha
    u64 arp_tha
    u64 quoted_ip_src_hi
    u64 quoted_ip_src_lo
    u64 quoted_ip_dst_hi
    u64 quoted_ip_dst_lo
    u32 vni
    u32 vxlan_word
    u32 inner_vni
    u32 tunnel_offset
    u32 esp_spi
    u32 esp_seq
    u32 arp_spa
    u32 arp_tpa
    u32 tcp_seq
    u32 tcp_ack
    u32 icmp_mtu
    u32 payload_offset
    u32 payload_len
    u32 dns_offset
    u32 dns_len
    u32 stop_offset
    u32 stop_wanted
    u32 sll_ifindex
    u16 arp_op
    u16 icmp_id
    u16 icmp_seq
    u16 quoted_sport
    u16 quoted_dport
    u16 quoted_ip_id
    u16 quoted_ip_len
    u16 tcp_flags
    u16 tcp_window
    u16 tcp_mss
    u16 dns_id
    u16 dns_flags
    u16 dns_questions
    u16 dns_answer_count
    u16 gbp_policy
    u16 geneve_protocol
    u16 geneve_options
    u8 sll_type
    u8 tunnel
    u8 inner_tunnel
    u8 depth
    u8 guessed
    u8 control
    u8 vxlan_last
    u8 gpe_next
    u8 geneve_version
    u8 geneve_critical
    u8 geneve_oam
    u8 icmp_type
    u8 icmp_code
    u8 quoted_proto
    u8 stop
    u8 stop_layer
    u8 stop_depth
    u8 reassembled

# Positions in the enumerations of columns.py.
cdef enum Tunnel:
    NO_TUNNEL, VXLAN, GPE, GENEVE
cdef enum Fragment:
    WHOLE, FIRST, LATER
cdef enum Checksum:
    UNKNOWN, ZERO, GOOD, PARTIAL, LCO, BAD
cdef enum Control:
    NO_CONTROL, MANAGEMENT, GOSSIP
cdef enum Stop:
    NOT_STOPPED, SNAPPED, TRUNCATED, MALFORMED, DEPTH, UNSUPPORTED, FRAGMENT
cdef enum Layer:
    L_NONE, L_LINK, L_ETHERNET, L_VLAN, L_ARP, L_IPV4, L_IPV6, L_IPV6_EXTENSION, L_UDP, L_TCP, L_ICMP, L_ICMPV6, L_ESP, L_VXLAN, L_GPE, L_NSH, L_GENEVE, L_DNS

# Bits of Headers.have and Row.have, in the order of columns.HEADER_HAVE and columns.HAVE.
cdef enum HeaderHave:
    H_ETH = 1 << 0
    H_ETH_DST = 1 << 1
    H_ETHERTYPE = 1 << 2
    H_VLAN = 1 << 3
    H_VLAN2 = 1 << 4
    H_IP = 1 << 5
    H_IPV4 = 1 << 6
    H_IP_ID = 1 << 7
    H_FRAG = 1 << 8
    H_PORTS = 1 << 9
    H_UDP = 1 << 10
    H_L4 = 1 << 11
    H_TRAILER = 1 << 12
    H_CHECKSUM = 1 << 13
cdef enum Have:
    R_TUNNEL = 1 << 0
    R_VXLAN = 1 << 1
    R_GBP = 1 << 2
    R_GPE = 1 << 3
    R_GENEVE = 1 << 4
    R_ESP = 1 << 5
    R_ARP = 1 << 6
    R_ICMP = 1 << 7
    R_ICMP_ECHO = 1 << 8
    R_ICMP_MTU = 1 << 9
    R_QUOTED = 1 << 10
    R_QUOTED_PORTS = 1 << 11
    R_TCP = 1 << 12
    R_TCP_MSS = 1 << 13
    R_PAYLOAD = 1 << 14
    R_DNS = 1 << 15
    R_SLL = 1 << 16
    R_SLL_IFINDEX = 1 << 17

cdef enum:
    MAX_DEPTH = 8
    MAX_JUMPS = 127  # pointers in one DNS name: as many as it can have labels
    NOTHING = -1  # no EtherType, no protocol: the headers end here

cdef u64 V4_MAPPED = <u64>0xFFFF << 32  # the low half of ::ffff:0.0.0.0 (RFC 4291 section 2.5.5.2)
cdef u64 RESOLVER = (<u64>0xFFFF << 32) | 0x7F00000B  # 127.0.0.11, Docker's embedded resolver


def row_size() -> int:
    """Bytes of the C struct; must be columns.ROW.itemsize."""
    return sizeof(Row)


cdef inline u32 fold(u64 total) noexcept nogil:
    """A ones' complement sum in 16 bits (RFC 1071)."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return <u32>total


cdef inline u64 big16(u32 word) noexcept nogil:
    """A 16-bit number read from memory as the machine keeps it, as a big-endian one."""
    cdef u8 two[2]
    cdef u16 native = <u16>word
    memcpy(two, &native, 2)
    return (<u64>two[0] << 8) | two[1]


@cython.final
cdef class Walk:
    """One walk over one buffer. Holds the bounds of the layer being read; everything it learns goes into the row."""

    cdef const u8[::1] bytes
    cdef const u8[::1] kinds  # 65,536 entries: UDP destination port -> Tunnel
    cdef bint guess
    cdef bint checksums

    cdef Row *row
    cdef Headers *headers  # of the level being read
    cdef i64 base  # first byte of the frame
    cdef i64 p  # next byte to read
    cdef i64 end
    cdef i64 wend
    cdef bint fragment  # inside a first fragment: what is missing is in later ones
    cdef bint rerouted  # an IPv6 routing header has segments left: the pseudo-header's destination is not the one in the IP header
    cdef bint whole  # the L4 datagram is complete and in the buffer
    cdef i64 outer_l4_end
    cdef bint outer_whole
    cdef u8 claim_layer  # a length claim that the frame does not keep
    cdef u8 claim_depth
    cdef i64 claim_offset
    cdef i64 claim_wanted

    def __cinit__(self, const u8[::1] buffer, const u8[::1] kinds, bint guess, bint checksums):
        if kinds.shape[0] != 65536:
            raise ValueError("kinds must have one entry per port")
        self.bytes = buffer
        self.kinds = kinds
        self.guess = guess
        self.checksums = checksums

    # -- reading -------------------------------------------------------------------------------------------------------------

    # The first and the last byte of a number are checked against the buffer, then it is loaded whole: byte by byte costs twice as much.

    cdef inline i64 be16(self, i64 p) except -1 nogil:
        cdef u16 word
        memcpy(&word, &self.bytes[p], <size_t>(&self.bytes[p + 1] - &self.bytes[p]) + 1)
        return bswap16(word)

    cdef inline i64 be32(self, i64 p) except -1 nogil:
        cdef u32 word
        memcpy(&word, &self.bytes[p], <size_t>(&self.bytes[p + 3] - &self.bytes[p]) + 1)
        return bswap32(word)

    cdef inline i64 be48(self, i64 p) except -1 nogil:
        return (self.be16(p) << 32) | self.be32(p + 2)

    cdef inline u64 be64(self, i64 p) except? 0 nogil:
        cdef u64 word
        memcpy(&word, &self.bytes[p], <size_t>(&self.bytes[p + 7] - &self.bytes[p]) + 1)
        return bswap64(word)

    # -- ending --------------------------------------------------------------------------------------------------------------

    cdef void halt(self, Stop why, Layer layer, i64 offset, i64 wanted) noexcept nogil:
        if self.row.stop == NOT_STOPPED:
            self.row.stop = why
            self.row.stop_layer = layer
            self.row.stop_depth = self.row.depth
            self.row.stop_offset = <u32>(offset - self.base)
            self.row.stop_wanted = <u32>wanted

    cdef bint fits(self, i64 wanted, Layer layer) noexcept nogil:
        """Whether `wanted` bytes are there at p; where not, the row says why."""
        if self.p + wanted <= self.end:
            return True
        if self.p + wanted <= self.wend:
            self.halt(SNAPPED, layer, self.p, wanted)
        elif self.fragment:
            self.halt(FRAGMENT, layer, self.p, wanted)
        else:
            self.halt(TRUNCATED, layer, self.p, wanted)
        return False

    cdef void claim(self, Layer layer, i64 offset, i64 length) noexcept nogil:
        """The header at `offset` says that `length` bytes belong to it: the bounds shrink to that, or the claim is remembered as broken."""
        cdef i64 stop = offset + length
        if stop > self.wend:
            if not self.fragment and self.claim_layer == L_NONE:
                self.claim_layer = layer
                self.claim_depth = self.row.depth
                self.claim_offset = offset
                self.claim_wanted = length
            return
        self.fragment = False  # what ends inside a first fragment is not continued in a later one
        self.wend = stop
        if self.end > stop:
            self.end = stop

    cdef bint complete(self) noexcept nogil:
        """Whether all bytes that a checksum covers are there, and are what the sender summed up."""
        return not self.fragment and not self.rerouted and self.claim_layer == L_NONE and self.end == self.wend

    # -- link ----------------------------------------------------------------------------------------------------------------

    cdef i64 link(self, int linktype) except -2 nogil:
        """Returns the EtherType that follows, or NOTHING."""
        cdef i64 family, arphrd
        if linktype == 1:
            return self.ethernet()
        if linktype == 113:  # LINKTYPE_LINUX_SLL
            if not self.fits(16, L_LINK):
                return NOTHING
            self.row.have |= R_SLL
            self.row.sll_type = <u8>self.be16(self.p)
            arphrd = self.be16(self.p + 2)
            if self.be16(self.p + 4) == 6:
                self.headers.eth_src = <u64>self.be48(self.p + 6)
                self.headers.have |= H_ETH
            self.p += 14
            return self.after_cooked(arphrd)
        if linktype == 276:  # LINKTYPE_LINUX_SLL2
            if not self.fits(20, L_LINK):
                return NOTHING
            self.row.have |= R_SLL | R_SLL_IFINDEX
            self.row.sll_ifindex = <u32>self.be32(self.p + 4)
            arphrd = self.be16(self.p + 8)
            self.row.sll_type = self.bytes[self.p + 10]
            if self.bytes[self.p + 11] == 6:
                self.headers.eth_src = <u64>self.be48(self.p + 12)
                self.headers.have |= H_ETH
            family = self.be16(self.p)
            self.p += 20
            return self.ethertype(family) if arphrd != 824 else self.unknown_link()
        if linktype == 12 or linktype == 14 or linktype == 101:  # raw IP, on various systems
            if not self.fits(1, L_LINK):
                return NOTHING
            family = self.bytes[self.p] >> 4
            if family == 4:
                return 0x0800
            if family == 6:
                return 0x86DD
            self.halt(MALFORMED, L_LINK, self.p, 1)
            return NOTHING
        if linktype == 228:
            return 0x0800
        if linktype == 229:
            return 0x86DD
        if linktype == 0 or linktype == 108:  # LINKTYPE_NULL in the writer's byte order, LINKTYPE_LOOP in network order
            if not self.fits(4, L_LINK):
                return NOTHING
            family = self.be32(self.p)
            if linktype == 0 and family > 0xFFFF:
                family = bswap32(<u32>family)
            self.p += 4
            if family == 2:
                return 0x0800
            if family == 10 or family == 24 or family == 28 or family == 30:  # AF_INET6 on Linux, NetBSD, FreeBSD, Darwin
                return 0x86DD
            self.p -= 4
            return self.unknown_link()
        return self.unknown_link()

    cdef i64 unknown_link(self) noexcept nogil:
        self.halt(UNSUPPORTED, L_LINK, self.p, 0)
        return NOTHING

    cdef i64 after_cooked(self, i64 arphrd) except -2 nogil:
        cdef i64 kind = self.be16(self.p)
        self.p += 2
        return self.ethertype(kind) if arphrd != 824 else self.unknown_link()  # 824: netlink, whose "protocol" is no EtherType

    cdef i64 ethernet(self) except -2 nogil:
        cdef i64 kind
        if not self.fits(14, L_ETHERNET):
            return NOTHING
        self.headers.eth_dst = self.be64(self.p) >> 16  # the eight bytes from its first one on
        self.headers.eth_src = self.be64(self.p + 4) & <u64>0xFFFFFFFFFFFF  # the eight up to its last one
        self.headers.eth_offset = <u32>(self.p - self.base)
        self.headers.have |= H_ETH | H_ETH_DST
        kind = self.be16(self.p + 12)
        self.p += 14
        return self.ethertype(kind)

    cdef i64 ethertype(self, i64 kind) except -2 nogil:
        """Past any stack of VLAN tags to the EtherType of what they carry."""
        cdef Headers *h = self.headers
        while kind == 0x8100 or kind == 0x88A8 or kind == 0x9100:
            if not self.fits(4, L_VLAN):
                return NOTHING
            if h.vlan_tags == 0:
                h.vlan = <u16>(self.be16(self.p) & 0x0FFF)
                h.have |= H_VLAN
            elif h.vlan_tags == 1:
                h.vlan2 = <u16>(self.be16(self.p) & 0x0FFF)
                h.have |= H_VLAN2
            if h.vlan_tags < 255:
                h.vlan_tags += 1
            kind = self.be16(self.p + 2)
            self.p += 4
        if kind < 0x0600:  # a length (802.3) or, on a cooked link, a frame type of Linux
            return NOTHING
        h.ethertype = <u16>kind
        h.have |= H_ETHERTYPE
        return kind

    # -- network -------------------------------------------------------------------------------------------------------------

    cdef i64 network(self, i64 kind) except -2 nogil:
        """Returns the IP protocol that follows, or NOTHING."""
        if kind == 0x0800:
            return self.ipv4()
        if kind == 0x86DD:
            return self.ipv6()
        if kind == 0x0806:
            self.arp()
        return NOTHING

    cdef int arp(self) except -1 nogil:
        cdef Row *r = self.row
        if not self.fits(8, L_ARP):
            return 0
        if self.be16(self.p + 4) != 0x0604 or self.be16(self.p + 2) != 0x0800:  # not MAC and IPv4: nothing we have columns for
            return 0
        if not self.fits(28, L_ARP):
            return 0
        r.have |= R_ARP
        r.arp_op = <u16>self.be16(self.p + 6)
        r.arp_sha = <u64>self.be48(self.p + 8)
        r.arp_spa = <u32>self.be32(self.p + 14)
        r.arp_tha = <u64>self.be48(self.p + 18)
        r.arp_tpa = <u32>self.be32(self.p + 24)
        self.headers.trailer = <u32>(self.wend - self.p - 28)
        self.headers.have |= H_TRAILER
        return 0

    cdef i64 ipv4(self) except -2 nogil:
        cdef Headers *h = self.headers
        cdef i64 start = self.p, length, header, fragment, enclosing = self.wend
        if not self.fits(20, L_IPV4):
            return NOTHING
        header = (self.bytes[start] & 15) * 4
        length = self.be16(start + 2)
        if self.bytes[start] >> 4 != 4 or header < 20 or (length != 0 and length < header):
            self.halt(MALFORMED, L_IPV4, start, 20 if header < 20 else header)
            return NOTHING
        fragment = self.be16(start + 6)
        self.rerouted = False
        h.have |= H_IP | H_IPV4 | H_IP_ID | H_TRAILER
        h.ip_version = 4
        h.ip_offset = <u32>(start - self.base)
        h.ip_len = <u32>length
        h.tos = self.bytes[start + 1]
        h.ip_id = <u32>self.be16(start + 4)
        h.ttl = self.bytes[start + 8]
        h.proto = self.bytes[start + 9]
        h.df = (fragment >> 14) & 1
        h.ip_src_lo = V4_MAPPED | <u64>self.be32(start + 12)
        h.ip_dst_lo = V4_MAPPED | <u64>self.be32(start + 16)
        if length:  # 0: larger than 65,535 (BIG TCP, or a segment not yet cut by the network card): all there is
            self.claim(L_IPV4, start, length)
        h.trailer = <u32>(enclosing - self.wend)
        if not self.fits(header, L_IPV4):
            return NOTHING
        if self.checksums:
            h.ip_checksum_class = GOOD if fold(self.sum(start, start + header)) == 0xFFFF else BAD
        self.p = start + header
        if fragment & 0x3FFF:
            return self.fragmented(h.proto, (fragment & 0x1FFF) * 8, (fragment >> 13) & 1)
        return h.proto

    cdef i64 fragmented(self, i64 proto, i64 offset, bint more) noexcept nogil:
        cdef Headers *h = self.headers
        h.have |= H_FRAG
        h.frag = LATER if offset else FIRST
        h.frag_offset = <u32>offset
        h.frag_more = more
        self.fragment = True
        return NOTHING if offset else proto

    cdef i64 ipv6(self) except -2 nogil:
        cdef Headers *h = self.headers
        cdef i64 start = self.p, length, proto, size, word, enclosing = self.wend
        cdef bint in_pieces = False
        if not self.fits(40, L_IPV6):
            return NOTHING
        if self.bytes[start] >> 4 != 6:
            self.halt(MALFORMED, L_IPV6, start, 40)
            return NOTHING
        length = self.be16(start + 4)
        proto = self.bytes[start + 6]
        self.rerouted = False
        h.have |= H_IP | H_TRAILER
        h.ip_version = 6
        h.ip_offset = <u32>(start - self.base)
        h.ip_len = <u32>(length + 40 if length else 0)
        h.tos = <u8>((self.be16(start) >> 4) & 0xFF)
        h.ttl = self.bytes[start + 7]
        h.proto = <u8>proto
        h.ip_src_hi = self.be64(start + 8)
        h.ip_src_lo = self.be64(start + 16)
        h.ip_dst_hi = self.be64(start + 24)
        h.ip_dst_lo = self.be64(start + 32)
        if length:  # 0: a jumbogram (RFC 2675) or BIG TCP: all there is
            self.claim(L_IPV6, start, length + 40)
        h.trailer = <u32>(enclosing - self.wend)
        self.p = start + 40
        while proto == 0 or proto == 43 or proto == 60 or proto == 44 or proto == 51 or proto == 135 or proto == 139 or proto == 140:
            if not self.fits(8, L_IPV6_EXTENSION):
                return NOTHING
            if proto == 44:
                word = self.be16(self.p + 2)
                h.ip_id = <u32>self.be32(self.p + 4)
                h.have |= H_IP_ID
                size = 8
                if word & 0xFFF9:  # an "atomic" fragment (RFC 6946) is whole
                    in_pieces = True
            else:
                size = (self.bytes[self.p + 1] + 2) * 4 if proto == 51 else (self.bytes[self.p + 1] + 1) * 8
                if not self.fits(size, L_IPV6_EXTENSION):
                    return NOTHING
                if proto == 43 and self.bytes[self.p + 3]:
                    self.rerouted = True
            proto = self.bytes[self.p]
            h.proto = <u8>proto
            self.p += size
            if in_pieces:
                in_pieces = False
                if self.fragmented(proto, word & 0xFFF8, word & 1) == NOTHING:
                    return NOTHING
        return proto

    # -- transport -----------------------------------------------------------------------------------------------------------

    cdef int transport(self, i64 proto) except -1 nogil:
        """Returns the kind of tunnel that begins at p, or NO_TUNNEL."""
        cdef Headers *h = self.headers
        h.l4_offset = <u32>(self.p - self.base)
        if proto == 17:
            return self.udp()
        if proto == 6:
            self.tcp()
        elif proto == 1 and h.ip_version == 4:
            self.icmp(L_ICMP)
        elif proto == 58 and h.ip_version == 6:
            self.icmp(L_ICMPV6)
        elif proto == 50:
            if self.fits(8, L_ESP):
                h.have |= H_L4
                self.row.have |= R_ESP
                self.row.esp_spi = <u32>self.be32(self.p)
                self.row.esp_seq = <u32>self.be32(self.p + 4)
        elif proto == 132:  # SCTP: ports only
            if self.p + 4 <= self.end:
                self.ports()
        return NO_TUNNEL

    cdef int ports(self) except -1 nogil:
        cdef Headers *h = self.headers
        h.sport = <u16>self.be16(self.p)
        h.dport = <u16>self.be16(self.p + 2)
        h.have |= H_PORTS | H_L4
        return 0

    cdef int udp(self) except -1 nogil:
        cdef Headers *h = self.headers
        cdef i64 start = self.p, length
        cdef int kind
        if not self.fits(8, L_UDP):
            return NO_TUNNEL
        self.ports()
        length = self.be16(start + 4)
        h.have |= H_UDP
        h.udp_len = <u16>length
        h.checksum = <u16>self.be16(start + 6)
        h.have |= H_CHECKSUM
        if length:
            if length < 8:
                self.halt(MALFORMED, L_UDP, start, 8)
                return NO_TUNNEL
            self.claim(L_UDP, start, length)
        self.whole = self.complete()
        self.p = start + 8
        self.payload()
        kind = self.kinds[h.dport]
        if kind == NO_TUNNEL and self.guess and self.looks_like_vxlan():
            self.row.guessed = 1
            kind = VXLAN
        if kind == NO_TUNNEL and self.end > self.p and self.is_dns():
            self.dns(self.p, self.end, True)
        return kind

    cdef void payload(self) noexcept nogil:
        self.row.have |= R_PAYLOAD
        self.row.payload_offset = <u32>(self.p - self.base)
        self.row.payload_len = <u32>(self.wend - self.p)

    cdef int tcp(self) except -1 nogil:
        cdef Row *r = self.row
        cdef i64 start = self.p, header, option, size, last
        if not self.fits(20, L_TCP):
            return 0
        self.ports()
        r.have |= R_TCP
        r.tcp_seq = <u32>self.be32(start + 4)
        r.tcp_ack = <u32>self.be32(start + 8)
        r.tcp_flags = <u16>(self.be16(start + 12) & 0x0FFF)
        r.tcp_window = <u16>self.be16(start + 14)
        self.headers.checksum = <u16>self.be16(start + 16)
        self.headers.have |= H_CHECKSUM
        header = (self.bytes[start + 12] >> 4) * 4
        if header < 20:
            self.halt(MALFORMED, L_TCP, start, 20)
            return 0
        if not self.fits(header, L_TCP):
            return 0
        self.whole = self.complete()
        option = start + 20
        last = start + header
        while option < last:  # RFC 9293 section 3.2: one byte, or kind, length and data
            if self.bytes[option] == 0:
                break
            if self.bytes[option] == 1:
                option += 1
                continue
            if option + 2 > last:
                break
            size = self.bytes[option + 1]
            if size < 2 or option + size > last:
                break
            if self.bytes[option] == 2 and size == 4:
                r.tcp_mss = <u16>self.be16(option + 2)
                r.have |= R_TCP_MSS
            option += size
        self.p = last
        self.payload()
        if self.end > self.p and self.is_dns():
            self.dns_over_tcp()
        return 0

    cdef int icmp(self, Layer layer) except -1 nogil:
        cdef Row *r = self.row
        cdef i64 start = self.p
        cdef bint v4 = layer == L_ICMP
        cdef int kind
        if not self.fits(8, layer):
            return 0
        kind = self.bytes[start]
        self.headers.have |= H_L4 | H_CHECKSUM
        self.headers.checksum = <u16>self.be16(start + 2)
        self.whole = self.complete()
        r.have |= R_ICMP
        r.icmp_type = <u8>kind
        r.icmp_code = self.bytes[start + 1]
        if (v4 and (kind == 0 or kind == 8)) or (not v4 and (kind == 128 or kind == 129)):
            r.have |= R_ICMP_ECHO
            r.icmp_id = <u16>self.be16(start + 4)
            r.icmp_seq = <u16>self.be16(start + 6)
        if v4 and kind == 3 and r.icmp_code == 4:
            r.have |= R_ICMP_MTU
            r.icmp_mtu = <u32>self.be16(start + 6)
        elif not v4 and kind == 2:
            r.have |= R_ICMP_MTU
            r.icmp_mtu = <u32>self.be32(start + 4)
        self.p = start + 8
        self.payload()
        if (v4 and (kind == 3 or kind == 4 or kind == 5 or kind == 11 or kind == 12)) or (not v4 and 1 <= kind <= 4):
            self.quoted(v4)
        return 0

    cdef int quoted(self, bint v4) except -1 nogil:
        """The head of the packet an error is about. A quote is cut short by its nature: what is missing of it is no stop."""
        cdef Row *r = self.row
        cdef i64 p = self.p, size
        if v4:
            if p + 20 > self.end or self.bytes[p] >> 4 != 4 or (self.bytes[p] & 15) < 5:
                return 0
            size = (self.bytes[p] & 15) * 4
            r.quoted_ip_len = <u16>self.be16(p + 2)
            r.quoted_ip_id = <u16>self.be16(p + 4)
            r.quoted_proto = self.bytes[p + 9]
            r.quoted_ip_src_lo = V4_MAPPED | <u64>self.be32(p + 12)
            r.quoted_ip_dst_lo = V4_MAPPED | <u64>self.be32(p + 16)
            if self.be16(p + 6) & 0x1FFF:  # a later fragment has no ports
                size = 0
        else:
            if p + 40 > self.end or self.bytes[p] >> 4 != 6:
                return 0
            size = 40
            r.quoted_ip_len = <u16>min(self.be16(p + 4) + 40, 0xFFFF)
            r.quoted_proto = self.bytes[p + 6]
            r.quoted_ip_src_hi = self.be64(p + 8)
            r.quoted_ip_src_lo = self.be64(p + 16)
            r.quoted_ip_dst_hi = self.be64(p + 24)
            r.quoted_ip_dst_lo = self.be64(p + 32)
        r.have |= R_QUOTED
        if size and (r.quoted_proto == 6 or r.quoted_proto == 17 or r.quoted_proto == 132) and p + size + 4 <= self.end:
            r.quoted_sport = <u16>self.be16(p + size)
            r.quoted_dport = <u16>self.be16(p + size + 2)
            r.have |= R_QUOTED_PORTS
        return 0

    # -- tunnels -------------------------------------------------------------------------------------------------------------

    cdef bint looks_like_vxlan(self) except -1 nogil:
        """The shape of a VXLAN datagram on a port nobody told us of: I flag alone, reserved fields zero, an Ethernet header whose payload is an IP packet or
        an ARP message that ends where the datagram ends (short frames may be padded to 60 bytes)."""
        cdef i64 p = self.p, kind, length, left
        if p + 8 + 14 + 20 > self.end or self.be32(p) != 0x08000000 or self.bytes[p + 7] != 0 or self.be32(p + 4) == 0:
            return False
        kind = self.be16(p + 20)
        left = self.wend - p - 22
        if kind == 0x0800:
            length = self.be16(p + 24)
            return self.bytes[p + 22] >> 4 == 4 and (self.bytes[p + 22] & 15) >= 5 and length >= 20 and (length == left or (length < left <= 46))
        if kind == 0x86DD:
            return self.bytes[p + 22] >> 4 == 6 and self.be16(p + 26) + 40 == left
        if kind == 0x0806:
            return self.be32(p + 22) == 0x00010800 and self.be16(p + 26) == 0x0604 and 28 <= left <= 46
        return False

    cdef i64 tunnel(self, int kind) except -2 nogil:
        """Reads a tunnel header and returns what it carries: an EtherType, 0 for an Ethernet frame, or NOTHING."""
        cdef Row *r = self.row
        cdef Layer layer = L_VXLAN if kind == VXLAN else L_GPE if kind == GPE else L_GENEVE
        cdef i64 start = self.p, word, last, carried
        if r.depth == MAX_DEPTH:
            self.halt(DEPTH, layer, start, 8)
            return NOTHING
        if not self.fits(8, layer):
            return NOTHING
        word = self.be32(start)
        last = self.be32(start + 4)
        if r.depth == 0:
            r.have |= R_TUNNEL
            r.tunnel = <u8>kind
            r.vni = <u32>(last >> 8)
            r.tunnel_offset = <u32>(start - self.base)
        r.inner_tunnel = <u8>kind
        r.inner_vni = <u32>(last >> 8)
        if kind == GENEVE:
            carried = self.geneve(start, word)
            r.depth += 1  # not before: the options are part of the header
            return carried
        self.p = start + 8
        r.depth += 1
        if r.depth == 1:
            r.have |= R_VXLAN
            r.vxlan_word = <u32>word
            r.vxlan_last = <u8>(last & 0xFF)
            if kind == GPE:
                r.have |= R_GPE
                r.gpe_next = <u8>(word & 0xFF)
            elif word >> 31:  # G: the last 16 bits of the word are a group policy id
                r.have |= R_GBP
                r.gbp_policy = <u16>(word & 0xFFFF)
        if kind == GPE and word & 0x04000000:  # P: the next-protocol field is meant
            return self.gpe_payload(word & 0xFF)
        return 0

    cdef i64 gpe_payload(self, i64 protocol) except -2 nogil:
        cdef i64 size
        if protocol == 4:  # NSH (RFC 8300): two-byte start with the length in words, next protocol in byte 3
            if not self.fits(8, L_NSH):
                return NOTHING
            size = (self.be16(self.p) & 0x3F) * 4
            protocol = self.bytes[self.p + 3]
            if size < 8:
                self.halt(MALFORMED, L_NSH, self.p, 8)
                return NOTHING
            if not self.fits(size, L_NSH):
                return NOTHING
            self.p += size
        if protocol == 1:
            return 0x0800
        if protocol == 2:
            return 0x86DD
        return 0 if protocol == 3 else NOTHING

    cdef i64 geneve(self, i64 start, i64 word) except -2 nogil:
        """Base header and options (RFC 8926 sections 3.4 and 3.5): the options' length is in the base header, in units of four bytes."""
        cdef Row *r = self.row
        cdef i64 size = ((word >> 24) & 0x3F) * 4, last, protocol = word & 0xFFFF
        cdef bint outermost = r.depth == 0
        if outermost:
            r.have |= R_GENEVE
            r.geneve_version = <u8>(word >> 30)
            r.geneve_oam = (word >> 23) & 1
            r.geneve_critical = (word >> 22) & 1
            r.geneve_protocol = <u16>protocol
        self.p = start
        if not self.fits(8 + size, L_GENEVE):
            return NOTHING
        last = start + 8 + size
        self.p = start + 8
        while self.p < last:
            size = 4 + (self.bytes[self.p + 3] & 0x1F) * 4
            if self.p + size > last:
                self.halt(MALFORMED, L_GENEVE, self.p, size)
                return NOTHING
            if outermost:
                r.geneve_options += 1
            self.p += size
        if protocol == 0x6558:  # transparent Ethernet bridging
            return 0
        return protocol if protocol == 0x0800 or protocol == 0x86DD else NOTHING

    # -- DNS -----------------------------------------------------------------------------------------------------------------

    cdef inline bint is_dns(self) noexcept nogil:
        cdef Headers *h = self.headers
        return h.sport == 53 or h.dport == 53 or h.ip_src_lo == RESOLVER and h.ip_src_hi == 0 or h.ip_dst_lo == RESOLVER and h.ip_dst_hi == 0

    cdef int dns_over_tcp(self) except -1 nogil:
        """A message with its two-byte length in front (RFC 1035 section 4.2.2). A segment that does not begin with one is the middle of a longer message."""
        cdef i64 size
        if self.p + 14 > self.end:
            return 0
        size = self.be16(self.p)
        # A plausible header: a known operation, the reserved bit zero, one question at the most.
        if size < 12 or (self.be16(self.p + 4) & 0x7840) > 0x2800 or self.be16(self.p + 4) & 0x0040 or self.be16(self.p + 6) > 1:
            return 0
        self.dns(self.p + 2, min(self.p + 2 + size, self.end), False)
        return 0

    cdef int dns(self, i64 start, i64 end, bint datagram) except -1 nogil:
        cdef Row *r = self.row
        cdef i64 p, i, records
        self.p = start
        if not self.fits(12, L_DNS):
            return 0
        r.have |= R_DNS
        r.dns_offset = <u32>(start - self.base)
        r.dns_len = <u32>(end - start)
        r.dns_id = <u16>self.be16(start)
        r.dns_flags = <u16>self.be16(start + 2)
        r.dns_questions = <u16>self.be16(start + 4)
        r.dns_answer_count = <u16>self.be16(start + 6)
        records = self.be16(start + 6) + self.be16(start + 8) + self.be16(start + 10)
        p = start + 12
        for i in range(r.dns_questions + records):
            p = self.name(start, p, end, datagram)
            if p < 0:
                return 0
            self.p = p
            if i < r.dns_questions:
                p += 4
            elif p + 10 <= end:
                p += 10 + self.be16(p + 8)
            else:
                p += 10
            if p > end:
                if datagram:
                    self.fits(p - self.p, L_DNS)
                return 0
        return 0

    cdef i64 name(self, i64 start, i64 p, i64 end, bint datagram) except -2 nogil:
        """Past a name at p (RFC 1035 section 4.1.4) that must be readable to its end: pointers go backwards only, 255 bytes at the most. Returns where it
        ends in the message, or NOTHING after the row has been told why."""
        cdef i64 after = NOTHING, size, wanted, length = 1, limit = p
        cdef int jumps = 0
        while True:
            self.p = p
            wanted = 1
            if p < end:
                size = self.bytes[p]
                if size == 0:
                    return p + 1 if after == NOTHING else after
                wanted = 2 if size >= 0xC0 else size + 1
                if size >= 0xC0 and p + wanted <= end:
                    if after == NOTHING:
                        after = p + 2
                    p = start + (self.be16(p) & 0x3FFF)
                    jumps += 1
                    if p >= limit or p < start + 12 or jumps > MAX_JUMPS:  # not backwards, into the header, or a chain made to keep us busy
                        self.halt(MALFORMED, L_DNS, self.p, 2)
                        return NOTHING
                    limit = p
                    continue
                if size < 0xC0:
                    length += wanted
                    if size >= 0x40 or length > 255:
                        self.halt(MALFORMED, L_DNS, p, 1)
                        return NOTHING
                    if p + wanted <= end:
                        p += wanted
                        continue
            if datagram:
                self.fits(wanted, L_DNS)
            return NOTHING

    # -- checksums -----------------------------------------------------------------------------------------------------------

    cdef u64 sum(self, i64 p, i64 end) except? 0xDEAD nogil:
        """The sum of the 16-bit big-endian words of [p, end), an odd last byte padded with zero (RFC 1071), or a number that folds to the same: the words
        are added as they lie in memory, 32 bits at a time, and the result is turned round once (section 2 (B)). Cannot overflow below 2^34 bytes."""
        cdef u64 total = 0, left = 0
        cdef u32 word
        cdef u8 last[2]
        cdef i64 i, words
        cdef const u8 *at
        if p >= end:
            return 0
        # Both ends with their bounds check; what lies between is inside as well.
        at = &self.bytes[p]
        words = (&self.bytes[end - 1] - at + 1) >> 2
        for i in range(words):
            memcpy(&word, at + 4 * i, 4)
            total += word
        p += 4 * words
        while p < end:
            last[0] = self.bytes[p]
            last[1] = self.bytes[p + 1] if p + 1 < end else 0
            left += (<u32>last[0] << 8) | last[1]
            p += 2
        return big16(fold(total)) + left

    cdef u64 pseudo(self, const Headers *h, i64 proto, i64 length) noexcept nogil:
        """The sum of the pseudo-header (RFC 768, RFC 8200 section 8.1). IPv4 addresses are kept as ::ffff:a.b.c.d, whose prefix must not count."""
        cdef u64 total = <u64>proto + <u64>(length >> 16) + <u64>(length & 0xFFFF)
        cdef u64 halves[4]
        cdef int i
        halves[0] = h.ip_src_hi
        halves[1] = h.ip_src_lo
        halves[2] = h.ip_dst_hi
        halves[3] = h.ip_dst_lo
        if h.ip_version == 4:
            halves[1] &= <u64>0xFFFFFFFF
            halves[3] &= <u64>0xFFFFFFFF
        for i in range(4):
            total += (halves[i] & 0xFFFF) + ((halves[i] >> 16) & 0xFFFF) + ((halves[i] >> 32) & 0xFFFF) + (halves[i] >> 48)
        return total

    cdef int classify(self) except -1 nogil:
        """Checksum classes of the innermost datagram and of the outermost UDP header."""
        cdef Row *r = self.row
        cdef Headers *h = &r.inner
        cdef i64 l4 = self.base + h.l4_offset, outer_l4, length
        cdef u64 inner_pseudo = 0
        cdef bint inner_partial = False
        if self.whole and h.have & H_CHECKSUM:
            length = self.end - l4
            if r.have & R_ICMP:
                if h.ip_version == 6:
                    inner_pseudo = self.pseudo(h, 58, length)
            else:
                inner_pseudo = self.pseudo(h, 17 if h.have & H_UDP else 6, length)
            if h.have & H_UDP and h.checksum == 0:
                h.checksum_class = ZERO
            elif fold(inner_pseudo + self.sum(l4, self.end)) == 0xFFFF:
                h.checksum_class = GOOD
            elif inner_pseudo and h.checksum == fold(inner_pseudo):
                h.checksum_class = PARTIAL
                inner_partial = True
            else:
                h.checksum_class = BAD
        if r.depth == 0:
            r.outer.checksum_class = h.checksum_class
            return 0
        h = &r.outer
        if not self.outer_whole:
            return 0
        outer_l4 = self.base + h.l4_offset
        length = self.outer_l4_end - outer_l4
        if h.checksum == 0:
            h.checksum_class = ZERO
        elif fold(self.pseudo(h, 17, length) + self.sum(outer_l4, self.outer_l4_end)) == 0xFFFF:
            h.checksum_class = GOOD
        elif h.checksum == fold(self.pseudo(h, 17, length)):
            h.checksum_class = PARTIAL
        elif inner_partial and fold(self.pseudo(h, 17, length) + self.sum(outer_l4, l4) + (0xFFFF ^ r.inner.checksum)) == 0xFFFF:
            h.checksum_class = LCO
        else:
            h.checksum_class = BAD
        return 0

    # -- one frame -----------------------------------------------------------------------------------------------------------

    cdef int frame(self, const IndexEntry *entry, Row *r) except -1 nogil:
        cdef i64 kind, proto
        cdef int tunnel, depth
        cdef bint whole
        clear(r, 0, sizeof(Row))
        r.frame = entry.frame
        r.ts = entry.ts
        r.caplen = entry.caplen
        r.wirelen = entry.wirelen
        r.interface = entry.interface
        r.vantage = entry.vantage
        r.linktype = entry.linktype
        self.row = r
        self.headers = &r.outer
        self.base = self.p = entry.offset
        self.end = self.base + entry.caplen
        self.wend = self.base + max(entry.wirelen, entry.caplen)
        self.fragment = self.rerouted = self.whole = self.outer_whole = False
        self.claim_layer = L_NONE
        kind = self.link(entry.linktype)
        while kind != NOTHING:
            proto = self.network(kind)
            if proto == NOTHING:
                break
            tunnel = self.transport(proto)
            if tunnel == NO_TUNNEL:
                break
            depth, whole = r.depth, self.whole
            if depth == 0:
                self.outer_whole = whole
                self.outer_l4_end = self.end
            self.whole = False
            kind = self.tunnel(tunnel)
            if r.depth == depth:  # the tunnel header itself is missing or too deep: these headers are still the innermost
                self.whole = whole
                break
            self.headers = &r.inner
            if depth:  # the first inner headers are clear already
                clear(&r.inner, 0, sizeof(Headers))
            r.have &= ~(<u64>R_PAYLOAD)
            r.payload_offset = r.payload_len = 0
            if kind == 0:
                kind = self.ethernet()
        if r.depth == 0:
            self.control()
            copy(&r.inner, &r.outer, sizeof(Headers))
        if r.stop == NOT_STOPPED and self.claim_layer != L_NONE:
            self.halt(TRUNCATED, <Layer>self.claim_layer, self.claim_offset, self.claim_wanted)
            r.stop_depth = self.claim_depth
        if self.checksums:
            self.classify()
        return 0

    cdef void control(self) noexcept nogil:
        cdef Headers *h = &self.row.outer
        if not h.have & H_UDP and not self.row.have & R_TCP:
            return
        if h.sport == 7946 or h.dport == 7946:
            self.row.control = GOSSIP
        elif self.row.have & R_TCP and (h.sport == 2377 or h.dport == 2377):
            self.row.control = MANAGEMENT


def walk(const u8[::1] buffer, const u8[:, ::1] index, u8[:, ::1] rows, const u8[::1] kinds, bint guess, bint checksums):
    """Fill one row per index entry.

    buffer: the bytes. index: frames.INDEX records as bytes, shape (n, 48). rows: columns.ROW records as bytes, shape (n, ROW.itemsize), overwritten.
    kinds: the tunnel kind for each UDP destination port. Raises ValueError when shapes differ or an entry points outside the buffer.
    """
    cdef Walk self = Walk(buffer, kinds, guess, checksums)
    cdef Py_ssize_t i, n = index.shape[0]
    cdef const IndexEntry *entry
    if index.shape[1] != sizeof(IndexEntry) or rows.shape[1] != sizeof(Row) or rows.shape[0] != n:
        raise ValueError("index or rows have the wrong shape")
    with nogil:
        for i in range(n):
            entry = <const IndexEntry *>&index[i, 0]
            if entry.offset < 0 or entry.offset > buffer.shape[0] or entry.caplen > buffer.shape[0] - entry.offset:
                with gil:
                    raise ValueError(f"frame {entry.frame} lies outside its buffer")
            self.frame(entry, <Row *>&rows[i, 0])


def layout():
    """Where each field of the C struct lies: name -> (offset, size). Compared with columns.ROW by the tests."""
    cdef Row r
    cdef u8 *zero = <u8 *>&r
    out = {}
    for prefix in ("outer", "inner"):
        h = <u8 *>&r.outer - zero if prefix == "outer" else <u8 *>&r.inner - zero
        out[f"{prefix}_eth_src"] = (h + (<u8 *>&r.outer.eth_src - <u8 *>&r.outer), sizeof(r.outer.eth_src))
        out[f"{prefix}_have"] = (h + (<u8 *>&r.outer.have - <u8 *>&r.outer), sizeof(r.outer.have))
        out[f"{prefix}_ethertype"] = (h + (<u8 *>&r.outer.ethertype - <u8 *>&r.outer), sizeof(r.outer.ethertype))
        out[f"{prefix}_checksum"] = (h + (<u8 *>&r.outer.checksum - <u8 *>&r.outer), sizeof(r.outer.checksum))
        out[f"{prefix}_ip_checksum_class"] = (h + (<u8 *>&r.outer.ip_checksum_class - <u8 *>&r.outer), sizeof(r.outer.ip_checksum_class))
    out["have"] = (<u8 *>&r.have - zero, sizeof(r.have))
    out["arp_sha"] = (<u8 *>&r.arp_sha - zero, sizeof(r.arp_sha))
    out["vni"] = (<u8 *>&r.vni - zero, sizeof(r.vni))
    out["sll_ifindex"] = (<u8 *>&r.sll_ifindex - zero, sizeof(r.sll_ifindex))
    out["arp_op"] = (<u8 *>&r.arp_op - zero, sizeof(r.arp_op))
    out["geneve_options"] = (<u8 *>&r.geneve_options - zero, sizeof(r.geneve_options))
    out["sll_type"] = (<u8 *>&r.sll_type - zero, sizeof(r.sll_type))
    out["reassembled"] = (<u8 *>&r.reassembled - zero, sizeof(r.reassembled))
    return out


cdef inline u64 mix(u64 state, u64 word) noexcept nogil:
    state = (state ^ word) * <u64>0x9E3779B97F4A7C15
    return state ^ (state >> 29)


def digest(const u8[::1] buffer, const u8[:, ::1] index, const u8[:, ::1] rows, u64[::1] out):
    """A number for each frame that tells its innermost frame from others, wherever it is captured; 0 where too few bytes were captured.

    Covers the inner Ethernet header and up to 64 bytes from the inner IP header on, without what changes on the way or by offload: TTL, IP header checksum,
    TCP, UDP and ICMP checksums. Not for keeping: the mixing may change from version to version.
    """
    cdef Py_ssize_t i, n = index.shape[0]
    cdef const IndexEntry *entry
    cdef const Row *row
    cdef i64 start, ip, end, captured, checksum, p
    cdef u64 state
    if index.shape[1] != sizeof(IndexEntry) or rows.shape[1] != sizeof(Row) or rows.shape[0] != n or out.shape[0] != n:
        raise ValueError("index, rows or out have the wrong shape")
    with nogil:
        for i in range(n):
            entry = <const IndexEntry *>&index[i, 0]
            row = <const Row *>&rows[i, 0]
            out[i] = 0
            captured = entry.offset + entry.caplen
            start = entry.offset + row.inner.eth_offset
            ip = entry.offset + row.inner.ip_offset
            if row.inner.have & H_IP:
                end = min(entry.offset + max(entry.wirelen, entry.caplen) - row.inner.trailer, ip + 64)
            elif row.have & R_ARP:
                ip = captured
                end = start + 42
            else:
                continue
            if not row.inner.have & H_ETH_DST:
                start = ip
            if end > captured or start < entry.offset:
                continue
            checksum = -1
            if row.inner.have & H_CHECKSUM:
                checksum = entry.offset + row.inner.l4_offset + (16 if row.have & R_TCP else 6 if row.inner.have & H_UDP else 2)
            state = mix(<u64>0x243F6A8885A308D3, row.inner.ip_len)
            for p in range(start, end):
                if p == ip + 8 and row.inner.ip_version == 4 or p == ip + 7 and row.inner.ip_version == 6:
                    continue
                if (p == ip + 10 or p == ip + 11) and row.inner.ip_version == 4:
                    continue
                if p == checksum or p == checksum + 1:
                    continue
                state = mix(state, buffer[p])
            out[i] = state or 1
