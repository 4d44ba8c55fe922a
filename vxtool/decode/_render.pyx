# cython: language_level=3, boundscheck=True, wraparound=False, cdivision=True, initializedcheck=False
"""Rows to bytes: the cells of CSV and JSON, and the one line a frame of text output.

Knows where a field lies in a row and how it is written down; refuses to open or write any file. Words that depend on the batch (vantages, interfaces) and the
text of DNS messages are handed in as bytes, already escaped: nothing else in a row can hold text.

Rows may hold anything (they are checked for their size only): numbers without a word are written as absent or as numbers, never looked up out of bounds.
Output goes to a buffer of our own that is made large enough before each row, so that the writing itself needs no checks.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy, memset

from vxtool.decode.columns import CHECKSUM_CLASSES, HAVE, HEADER_HAVE, LAYERS, ROW, STOPS, TUNNELS

ctypedef unsigned char u8
ctypedef unsigned short u16
ctypedef unsigned int u32
ctypedef unsigned long long u64
ctypedef long long i64

cdef enum:
    CHUNK = 256 * 1024  # bytes handed out at a time: what is written stays in the processor's cache
    SLACK = 128  # copies may write this much more than they keep

cdef int ROW_SIZE = ROW.itemsize
cdef u64 BROADCAST = 0xFFFFFFFFFFFF
cdef u64 V4_MAPPED = 0xFFFF  # lo >> 32 of ::ffff:a.b.c.d

# ---------------------------------------------------------------------------------------------------------------------------
# Numbers and addresses. Each function writes at `out` and returns the place after.
# ---------------------------------------------------------------------------------------------------------------------------

cdef char[200] PAIRS  # "00" to "99"
cdef char[512] HEX  # "00" to "ff"
cdef char[1024] OCTETS  # "0" to "255", each with its length in the fourth byte


cdef void _fill() noexcept:
    cdef int i
    cdef const char *digits = b"0123456789abcdef"
    for i in range(100):
        PAIRS[2 * i] = 48 + i // 10
        PAIRS[2 * i + 1] = 48 + i % 10
    for i in range(256):
        HEX[2 * i] = digits[i >> 4]
        HEX[2 * i + 1] = digits[i & 15]
        if i < 10:
            OCTETS[4 * i] = 48 + i
            OCTETS[4 * i + 3] = 1
        elif i < 100:
            OCTETS[4 * i] = 48 + i // 10
            OCTETS[4 * i + 1] = 48 + i % 10
            OCTETS[4 * i + 3] = 2
        else:
            OCTETS[4 * i] = 48 + i // 100
            OCTETS[4 * i + 1] = 48 + i // 10 % 10
            OCTETS[4 * i + 2] = 48 + i % 10
            OCTETS[4 * i + 3] = 3


_fill()


cdef inline char *put_unsigned(char *out, u64 value) noexcept nogil:
    cdef char[24] digits
    cdef int at = 24, pair
    while value >= 100:
        pair = <int>(value % 100) * 2
        value = value // 100
        at -= 2
        memcpy(digits + at, PAIRS + pair, 2)
    if value >= 10:
        at -= 2
        memcpy(digits + at, PAIRS + <int>value * 2, 2)
    else:
        at -= 1
        digits[at] = <char>(48 + value)
    memcpy(out, digits + at, 24 - at)
    return out + 24 - at


cdef inline char *put_signed(char *out, i64 value) noexcept nogil:
    if value < 0:
        out[0] = b"-"
        return put_unsigned(out + 1, <u64>0 - <u64>value)
    return put_unsigned(out, <u64>value)


cdef inline char *put_mac(char *out, u64 mac) noexcept nogil:
    cdef int i
    for i in range(6):
        memcpy(out + 3 * i, HEX + 2 * ((mac >> (40 - 8 * i)) & 0xFF), 2)
        out[3 * i + 2] = b":"
    return out + 17


cdef inline char *put_ipv4(char *out, u32 address) noexcept nogil:
    cdef int i
    cdef const char *octet
    for i in range(4):
        octet = OCTETS + 4 * ((address >> (24 - 8 * i)) & 0xFF)
        memcpy(out, octet, 4)
        out += octet[3]
        out[0] = b"."
        out += 1
    return out - 1


cdef char *put_ipv6(char *out, u64 hi, u64 lo) noexcept nogil:
    """RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups (the first of equal ones) as "::"."""
    cdef int i, run = 0, best = 0, length = 0, digits
    cdef u32[8] group
    for i in range(4):
        group[i] = (hi >> (48 - 16 * i)) & 0xFFFF
        group[4 + i] = (lo >> (48 - 16 * i)) & 0xFFFF
    for i in range(8):
        run = run + 1 if group[i] == 0 else 0
        if run > length:
            length = run
            best = i + 1 - run
    if length < 2:
        length = 0
        best = 8
    i = 0
    while i < 8:
        if i == best:
            memcpy(out, b"::", 2)
            out += 2
            i += length
            continue
        if i and i != best + length:
            out[0] = b":"
            out += 1
        digits = 4 if group[i] >> 12 else 3 if group[i] >> 8 else 2 if group[i] >> 4 else 1
        while digits:
            digits -= 1
            out[0] = HEX[2 * ((group[i] >> (4 * digits)) & 15) + 1]
            out += 1
        i += 1
    return out


cdef inline char *put_ip(char *out, u64 hi, u64 lo, int version) noexcept nogil:
    """IPv4 is kept as ::ffff:a.b.c.d; the same address in an IPv6 header keeps its prefix."""
    if hi == 0 and lo >> 32 == V4_MAPPED:
        if version == 6:
            memcpy(out, b"::ffff:", 7)
            out += 7
        return put_ipv4(out, <u32>lo)
    return put_ipv6(out, hi, lo)


def ip_text(u64 hi, u64 lo, int version=0):
    """An address from its two halves: dotted for ::ffff:a.b.c.d (unless version is 6), else as RFC 5952 says."""
    cdef char[64] out
    cdef char *end = put_ip(out, hi, lo, version)
    return PyBytes_FromStringAndSize(out, end - out).decode("ascii")


def mac_text(u64 mac):
    """aa:bb:cc:dd:ee:ff from the low 48 bits."""
    cdef char[32] out
    return PyBytes_FromStringAndSize(out, put_mac(out, mac) - out).decode("ascii")


# ---------------------------------------------------------------------------------------------------------------------------
# Reading a row. memcpy: a view of rows need not be aligned.
# ---------------------------------------------------------------------------------------------------------------------------


cdef int place(str field) except -1:
    """Where a field begins in a row."""
    return ROW.fields[field][1]


cdef inline u16 get16(const u8 *p) noexcept nogil:
    cdef u16 value
    memcpy(&value, p, 2)
    return value


cdef inline u32 get32(const u8 *p) noexcept nogil:
    cdef u32 value
    memcpy(&value, p, 4)
    return value


cdef inline u64 get64(const u8 *p) noexcept nogil:
    cdef u64 value
    memcpy(&value, p, 8)
    return value


cdef inline u64 get(const u8 *p, int size) noexcept nogil:
    return p[0] if size == 1 else get16(p) if size == 2 else get32(p) if size == 4 else get64(p)


# ---------------------------------------------------------------------------------------------------------------------------
# A buffer that grows
# ---------------------------------------------------------------------------------------------------------------------------

cdef struct Word:
    const char *text
    int size


cdef class Writer:
    """Bytes under construction. `room` first, then write at `out` without further checks."""

    cdef char *begin
    cdef char *out
    cdef char *limit
    cdef list kept  # bytes objects whose insides are pointed at

    def __cinit__(self):
        self.kept = []

    def __dealloc__(self):
        free(self.begin)

    cdef int room(self, Py_ssize_t size) except -1:
        """Makes sure that `size` bytes (and SLACK) fit."""
        cdef Py_ssize_t used = self.out - self.begin
        cdef Py_ssize_t total
        cdef char *grown
        if self.begin != NULL and self.limit - self.out >= size + SLACK:
            return 0
        total = max(2 * (self.limit - self.begin), used + size + SLACK, CHUNK + CHUNK // 4)
        grown = <char *>realloc(self.begin, total)
        if grown == NULL:
            raise MemoryError
        self.begin = grown
        self.out = grown + used
        self.limit = grown + total
        return 0

    cdef Word word(self, bytes text):
        cdef Word word
        self.kept.append(text)
        word.text = PyBytes_AS_STRING(text)
        word.size = <int>PyBytes_GET_SIZE(text)
        return word

    cdef inline void put(self, const char *text, Py_ssize_t size) noexcept nogil:
        memcpy(self.out, text, size)
        self.out += size

    cdef inline void put_word(self, Word word) noexcept nogil:
        memcpy(self.out, word.text, word.size)
        self.out += word.size

    cdef bytes take(self):
        """What has been written; the next write begins anew."""
        taken = PyBytes_FromStringAndSize(self.begin, self.out - self.begin)
        self.out = self.begin
        return taken


cdef bytes message_of(const u8[::1] buffer, i64 offset, i64 caplen, u32 start, u32 size):
    """The DNS message of a frame, without its two id bytes; clamped to the captured bytes of the frame, whatever the row says."""
    cdef i64 first = offset + min(<i64>start + 2, caplen)
    cdef i64 last = offset + min(<i64>start + size, caplen)
    if offset < 0 or caplen < 0 or first >= last or last > buffer.shape[0]:
        return b""
    return PyBytes_FromStringAndSize(<const char *>&buffer[first], last - first)


cdef int CAPLEN = place("caplen"), DNS_OFFSET = place("dns_offset"), DNS_LEN = place("dns_len")

# ---------------------------------------------------------------------------------------------------------------------------
# CSV and JSON
# ---------------------------------------------------------------------------------------------------------------------------

NUMBER, SIGNED, MAC, IP, IPV4, WORD, NAME, DYNAMIC = range(8)
cdef enum CellKind:
    C_NUMBER, C_SIGNED, C_MAC, C_IP, C_IPV4, C_WORD, C_NAME, C_DYNAMIC

cdef struct Cell:
    CellKind kind
    int at  # of the field in the row
    int size  # bytes: 1, 2, 4 or 8
    int second  # C_IP: of the low half
    int version  # C_IP: of the IP version, -1 where there is none
    int shift
    u64 limit
    int place  # C_NAME, C_DYNAMIC: which of the tables, or of the texts
    int words  # C_WORD: how many
    Word *word
    Word head  # what stands before the value

cdef struct Group:  # neighbours that are present or absent together
    int at  # of the presence bits, -1: always there
    int size
    u64 bit
    int first
    int last
    Word absent  # all of them, absent


@cython.final
cdef class Cells(Writer):
    """Writes some columns of rows, one row after another.

    plan: one tuple (kind, field, second field, version field, shift, limit, words, place, mask field, bit, head) per column; see render.py, which makes it.
    before, after: around each row. null: an absent value. quote: around MAC and IP addresses.
    """

    cdef Cell *cells
    cdef Group *groups
    cdef int cell_count
    cdef int group_count
    cdef Py_ssize_t widest  # bytes of a row at most, names and dynamic texts aside
    cdef Word before
    cdef Word after
    cdef Word null
    cdef Word quote

    def __cinit__(self, list plan, bytes before, bytes after, bytes null, bytes quote):
        cdef int i, j
        cdef Cell *cell
        cdef Group *group = NULL
        cdef int at
        self.before, self.after, self.null, self.quote = self.word(before), self.word(after), self.word(null), self.word(quote)
        self.cell_count = len(plan)
        self.cells = <Cell *>calloc(max(1, len(plan)), sizeof(Cell))
        self.groups = <Group *>calloc(max(1, len(plan)), sizeof(Group))
        if self.cells == NULL or self.groups == NULL:
            raise MemoryError
        self.widest = len(before) + len(after)
        absent = b""
        for i, (kind, field, second, version, shift, limit, words, place, mask, bit, head) in enumerate(plan):
            cell = &self.cells[i]
            cell.kind = kind
            if field:
                cell.at, cell.size = ROW.fields[field][1], ROW.fields[field][0].itemsize
            cell.second = ROW.fields[second][1] if second else -1
            cell.version = ROW.fields[version][1] if version else -1
            cell.shift = shift
            cell.limit = limit or 0xFFFFFFFFFFFFFFFF
            cell.place = place
            cell.head = self.word(head)
            self.widest += len(head) + 64
            if words:
                cell.word = <Word *>calloc(len(words), sizeof(Word))
                if cell.word == NULL:
                    raise MemoryError
                cell.words = len(words)
                for j, word in enumerate(words):
                    cell.word[j] = self.word(word)
                    self.widest += len(word)
            at = ROW.fields[mask][1] if mask else -1
            if group == NULL or group.at != at or group.bit != <u64>bit:
                group = &self.groups[self.group_count]
                self.group_count += 1
                group.at, group.bit, group.first = at, bit, i
                group.size = ROW.fields[mask][0].itemsize if mask else 0
                absent = b""
            absent += head + null
            group.absent = self.word(absent)
            group.last = i + 1
            self.widest += len(head) + len(null)

    def __dealloc__(self):
        cdef int i
        if self.cells != NULL:
            for i in range(self.cell_count):
                free(self.cells[i].word)
        free(self.cells)
        free(self.groups)

    cdef inline void put_one(self, Word word) noexcept nogil:
        self.put_word(word if word.size else self.null)

    def render(self, const u8[:, ::1] rows, Py_ssize_t start, list names, dynamic, const u8[::1] buffer, const i64[::1] offsets):
        """Rows from `start` on, about 256 KiB of them. Returns their bytes and the row to go on with.

        names: a list of bytes for each NAME column's table. dynamic: the texts of the DYNAMIC columns from a DNS message without its id. buffer, offsets: where
        the bytes of each row's frame begin. Raises ValueError when rows have the wrong shape.
        """
        cdef Py_ssize_t i = start, count = rows.shape[0], most = self.widest
        cdef const u8 *row
        cdef int g, c
        cdef Cell *cell
        cdef Group *group
        cdef u64 value
        cdef Word word
        cdef tuple texts
        cdef bytes text
        cdef list table
        if rows.shape[1] != ROW_SIZE or offsets.shape[0] != count or start < 0:
            raise ValueError("rows or offsets have the wrong shape")
        for table in names:
            most += max(map(len, table), default=0)
        while i < count and self.out - self.begin < CHUNK:
            row = &rows[i, 0]
            self.room(most)
            self.put_word(self.before)
            texts = None
            for g in range(self.group_count):
                group = &self.groups[g]
                if group.at >= 0 and not get(row + group.at, group.size) & group.bit:
                    self.put_word(group.absent)
                    continue
                for c in range(group.first, group.last):
                    cell = &self.cells[c]
                    self.put_word(cell.head)
                    if cell.kind == C_NUMBER:
                        self.out = put_unsigned(self.out, (get(row + cell.at, cell.size) >> cell.shift) & cell.limit)
                    elif cell.kind == C_WORD:
                        value = get(row + cell.at, cell.size)
                        self.put_one(cell.word[value] if value < <u64>cell.words else self.null)
                    elif cell.kind == C_IP:
                        self.put_word(self.quote)
                        self.out = put_ip(self.out, get64(row + cell.at), get64(row + cell.second), row[cell.version] if cell.version >= 0 else 0)
                        self.put_word(self.quote)
                    elif cell.kind == C_MAC:
                        self.put_word(self.quote)
                        self.out = put_mac(self.out, get64(row + cell.at))
                        self.put_word(self.quote)
                    elif cell.kind == C_SIGNED:
                        self.out = put_signed(self.out, <i64>get(row + cell.at, cell.size))
                    elif cell.kind == C_IPV4:
                        self.put_word(self.quote)
                        self.out = put_ipv4(self.out, get32(row + cell.at))
                        self.put_word(self.quote)
                    elif cell.kind == C_NAME:
                        table = names[cell.place]
                        value = get(row + cell.at, cell.size)
                        text = table[value] if value < <u64>len(table) else b""
                        word.text, word.size = PyBytes_AS_STRING(text), <int>PyBytes_GET_SIZE(text)
                        self.put_one(word)
                    else:
                        if texts is None:
                            texts = dynamic(message_of(buffer, offsets[i], get32(row + CAPLEN), get32(row + DNS_OFFSET), get32(row + DNS_LEN)))
                        text = texts[cell.place]
                        self.room(PyBytes_GET_SIZE(text) + most)
                        word.text, word.size = PyBytes_AS_STRING(text), <int>PyBytes_GET_SIZE(text)
                        self.put_one(word)
            self.put_word(self.after)
            i += 1
        return self.take(), i


# ---------------------------------------------------------------------------------------------------------------------------
# Text: one line a frame
# ---------------------------------------------------------------------------------------------------------------------------


cdef int within(str field) except -1:
    """Where a field of a set of headers lies within the set; outer and inner must agree."""
    cdef int offset = place("outer_" + field) - place("outer_eth_src")
    if offset != place("inner_" + field) - place("inner_eth_src"):
        raise ImportError(f"outer_{field} and inner_{field} lie at different places of their headers")
    return offset


cdef int OUTER = place("outer_eth_src"), INNER = place("inner_eth_src")
cdef int ETH_SRC = within("eth_src"), ETH_DST = within("eth_dst"), H_HAVE = within("have")
cdef int IP_SRC_HI = within("ip_src_hi"), IP_SRC_LO = within("ip_src_lo"), IP_DST_HI = within("ip_dst_hi"), IP_DST_LO = within("ip_dst_lo")
cdef int IP_ID = within("ip_id"), FRAG_OFFSET = within("frag_offset"), FRAG = within("frag"), ETHERTYPE = within("ethertype"), VLAN = within("vlan")
cdef int SPORT = within("sport"), DPORT = within("dport"), IP_VERSION = within("ip_version"), PROTO = within("proto")
cdef int CHECKSUM_CLASS = within("checksum_class"), IP_CHECKSUM_CLASS = within("ip_checksum_class")
cdef int FRAME = place("frame"), TS = place("ts"), VANTAGE = place("vantage"), LINKTYPE = place("linktype"), R_HAVE = place("have"), WIRELEN = place("wirelen")
cdef int VNI = place("vni"), INNER_VNI = place("inner_vni"), TUNNEL = place("tunnel"), DEPTH = place("depth"), GUESSED = place("guessed"), CONTROL = place("control")
cdef int VXLAN_WORD = place("vxlan_word"), GBP_POLICY = place("gbp_policy"), ESP_SPI = place("esp_spi"), ESP_SEQ = place("esp_seq")
cdef int ARP_OP = place("arp_op"), ARP_SHA = place("arp_sha"), ARP_SPA = place("arp_spa"), ARP_TPA = place("arp_tpa"), ARP_THA = place("arp_tha")
cdef int ICMP_TYPE = place("icmp_type"), ICMP_CODE = place("icmp_code"), ICMP_ID = place("icmp_id"), ICMP_SEQ = place("icmp_seq"), ICMP_MTU = place("icmp_mtu")
cdef int Q_SRC_HI = place("quoted_ip_src_hi"), Q_SRC_LO = place("quoted_ip_src_lo"), Q_DST_HI = place("quoted_ip_dst_hi"), Q_DST_LO = place("quoted_ip_dst_lo")
cdef int Q_SPORT = place("quoted_sport"), Q_DPORT = place("quoted_dport"), Q_PROTO = place("quoted_proto")
cdef int TCP_FLAGS = place("tcp_flags"), TCP_SEQ = place("tcp_seq"), TCP_ACK = place("tcp_ack"), TCP_WINDOW = place("tcp_window"), TCP_MSS = place("tcp_mss")
cdef int PAYLOAD_LEN = place("payload_len"), DNS_ID = place("dns_id"), REASSEMBLED = place("reassembled")
cdef int STOP = place("stop"), STOP_LAYER = place("stop_layer"), STOP_OFFSET = place("stop_offset"), STOP_WANTED = place("stop_wanted")

cdef u32 HAS_ETH = HEADER_HAVE["eth"], HAS_ETH_DST = HEADER_HAVE["eth_dst"], HAS_ETHERTYPE = HEADER_HAVE["ethertype"], HAS_VLAN = HEADER_HAVE["vlan"]
cdef u32 HAS_IP = HEADER_HAVE["ip"], HAS_FRAG = HEADER_HAVE["frag"], HAS_PORTS = HEADER_HAVE["ports"], HAS_UDP = HEADER_HAVE["udp"], HAS_IP_ID = HEADER_HAVE["ip_id"]
cdef u64 HAS_TUNNEL = HAVE["tunnel"], HAS_VXLAN = HAVE["vxlan"], HAS_GBP = HAVE["gbp"], HAS_ESP = HAVE["esp"], HAS_ARP = HAVE["arp"], HAS_ICMP = HAVE["icmp"]
cdef u64 HAS_ECHO = HAVE["icmp_echo"], HAS_MTU = HAVE["icmp_mtu"], HAS_QUOTED = HAVE["quoted"], HAS_QUOTED_PORTS = HAVE["quoted_ports"]
cdef u64 HAS_TCP = HAVE["tcp"], HAS_MSS = HAVE["tcp_mss"], HAS_PAYLOAD = HAVE["payload"], HAS_DNS = HAVE["dns"]

cdef u8 STOP_TRUNCATED = STOPS.index("truncated"), STOP_MALFORMED = STOPS.index("malformed")
cdef u8 STOP_UNSUPPORTED = STOPS.index("unsupported"), STOP_DEPTH = STOPS.index("depth")
cdef u8 GOOD = CHECKSUM_CLASSES.index("good"), BAD = CHECKSUM_CLASSES.index("bad")
cdef u8 PLAIN_VXLAN = TUNNELS.index("vxlan")

cdef enum Control:
    MANAGEMENT = 1, GOSSIP = 2
cdef enum Fragment:
    FIRST = 1, LATER = 2
cdef enum TcpFlag:
    FIN = 0x01, SYN = 0x02, RST = 0x04, PSH = 0x08, ACK = 0x10, URG = 0x20, ECE = 0x40, CWR = 0x80, AE = 0x100

cdef enum Colour:
    OFF, DIM, TCP, UDP, ICMP, ARP, DNS, OTHER, WARN, ALARM, NET0, NET1, NET2, NET3, NET4, NET5
cdef char[16][8] SGR
cdef int[16] SGR_SIZE


cdef void _colours():
    cdef int i
    codes = ("0", "2", "32", "34", "33", "35", "36", "95", "33", "1;31", "1;36", "1;35", "1;32", "1;33", "1;34", "1;96")
    for i, code in enumerate(codes):
        text = b"\x1b[" + code.encode() + b"m"
        SGR_SIZE[i] = len(text)
        memcpy(SGR[i], PyBytes_AS_STRING(text), len(text))


_colours()

cdef enum:
    FLOWS = 1 << 16  # directions of TCP connections whose first sequence number is remembered: 1 MiB
    LINE = 2048  # bytes of a line at most, vantage and DNS text aside
    SETTLE = 512  # rows looked at for the widths of the columns before the first line

cdef struct Flow:
    u64 key
    u32 base


cdef inline u64 mix(u64 value) noexcept nogil:
    """splitmix64's finaliser."""
    value = (value ^ (value >> 30)) * <u64>0xBF58476D1CE4E5B9
    value = (value ^ (value >> 27)) * <u64>0x94D049BB133111EB
    return value ^ (value >> 31)


@cython.final
cdef class Lines(Writer):
    """Writes rows as lines; remembers, from line to line, how wide the columns are, from when times count, and where TCP connections began.

    time: of times.Clock. protocols: a word for each of the 256 IP protocols, or b"". ethertypes: number -> word. icmp: (version << 16 | type << 8 | code) ->
    words; a key whose code byte is 255 and has no better one stands for the type.
    """

    cdef bint colour
    cdef bint absolute
    cdef bint delta
    cdef list protocols
    cdef dict ethertypes
    cdef dict icmp
    cdef list stops
    cdef list layers
    cdef list classes
    cdef list tunnels
    cdef Flow *flows
    cdef bint started
    cdef bint settling  # widths only: connections are not followed
    cdef i64 origin  # ns, what times count from: the first row, or each time the one before
    cdef int frame_width
    cdef int time_width
    cdef int outer_width
    cdef int vni_width
    cdef int inner_width
    cdef int plain_width
    cdef Py_ssize_t hidden  # bytes of colour in the line so far
    cdef bint marked  # a mark has been written: the next one follows a comma

    def __cinit__(self, bint colour, str time, list protocols, dict ethertypes, dict icmp):
        if len(protocols) != 256:
            raise ValueError("protocols must have 256 entries")
        self.colour = colour
        self.absolute = time == "absolute"
        self.delta = time == "delta"
        self.protocols = protocols
        self.ethertypes = ethertypes
        self.icmp = icmp
        self.stops = [word.encode() for word in STOPS]
        self.layers = [word.encode() for word in LAYERS]
        self.classes = [word.encode() for word in CHECKSUM_CLASSES]
        self.tunnels = [word.encode() for word in TUNNELS]
        self.frame_width = 4
        self.time_width = 8
        self.flows = <Flow *>calloc(FLOWS, sizeof(Flow))
        if self.flows == NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.flows)

    def render(self, const u8[:, ::1] rows, Py_ssize_t start, list vantages, dynamic, const u8[::1] buffer, const i64[::1] offsets):
        """Lines of the rows from `start` on, about 256 KiB of them. Returns their bytes and the row to go on with.

        vantages: a word for each vantage, all of one width; empty: no such column. dynamic: what a line says of a DNS message (without its id). buffer, offsets:
        where the bytes of each row's frame begin. Raises ValueError when rows have the wrong shape.
        """
        cdef Py_ssize_t i = start, count = rows.shape[0]
        cdef i64 first
        if rows.shape[1] != ROW_SIZE or offsets.shape[0] != count or start < 0:
            raise ValueError("rows or offsets have the wrong shape")
        if not self.started and count:
            # The first lines are written twice, so that they are as well aligned as those after them.
            self.started = self.settling = True
            first = self.origin = <i64>get64(&rows[0, 0] + TS)
            while i < count and i < start + SETTLE:
                self.line(&rows[i, 0], vantages, None, buffer, 0)
                self.out = self.begin
                i += 1
            self.settling = False
            self.origin = first
            i = start
        while i < count and self.out - self.begin < CHUNK:
            self.line(&rows[i, 0], vantages, dynamic, buffer, offsets[i])
            i += 1
        return self.take(), i

    # -- pieces --------------------------------------------------------------------------------------------------------------

    cdef inline void literal(self, const char *text, int size) noexcept nogil:
        self.put(text, size)

    cdef inline void number(self, u64 value) noexcept nogil:
        self.out = put_unsigned(self.out, value)

    cdef int text(self, bytes text) except -1:
        self.room(PyBytes_GET_SIZE(text) + LINE)
        self.put(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        return 0

    cdef inline void paint(self, int colour) noexcept nogil:
        if self.colour:
            memcpy(self.out, SGR[colour], 8)
            self.out += SGR_SIZE[colour]
            self.hidden += SGR_SIZE[colour]

    cdef inline void spaces(self, Py_ssize_t count) noexcept nogil:
        if count > 0:
            memset(self.out, 32, count)
            self.out += count

    cdef inline Py_ssize_t column(self) noexcept nogil:
        """Visible characters of the line so far: everything but the vantage is ASCII, and that comes padded."""
        return self.out - self.begin - self.hidden

    cdef void right(self, char *begin, char *end, int *width) noexcept nogil:
        """Appends [begin, end) right-aligned, widening the column where it must."""
        cdef int size = <int>(end - begin)
        if size > width[0]:
            width[0] = size
        self.spaces(width[0] - size)
        self.put(begin, size)

    cdef void time(self, i64 ts) noexcept nogil:
        cdef char[64] text
        cdef char *out = text
        cdef i64 seconds, nanoseconds, days, era, year, day_of_era, year_of_era, day_of_year, month
        cdef u64 elapsed
        if not self.absolute:
            if ts < self.origin:
                out[0] = b"-"
                out += 1
                elapsed = <u64>self.origin - <u64>ts
            else:
                elapsed = <u64>ts - <u64>self.origin
            out = put_unsigned(out, elapsed // 1000000000)
            out = self.fraction(out, elapsed % 1000000000)
            if self.delta:
                self.origin = ts
        else:
            seconds = ts // 1000000000
            nanoseconds = ts % 1000000000
            if nanoseconds < 0:  # C rounds towards zero
                nanoseconds += 1000000000
                seconds -= 1
            days = seconds // 86400
            seconds = seconds % 86400
            if seconds < 0:
                seconds += 86400
                days -= 1
            # The civil calendar, counted in eras of 400 years that begin on 1 March (nothing here is before the year 1677).
            days += 719468
            era = days // 146097
            day_of_era = days % 146097
            year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
            day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
            month = (5 * day_of_year + 2) // 153
            year = year_of_era + era * 400 + (1 if month >= 10 else 0)
            out = put_unsigned(out, <u64>year)
            out[0] = b"-"
            out = self.two(out + 1, month + 3 if month < 10 else month - 9)
            out[0] = b"-"
            out = self.two(out + 1, day_of_year - (153 * month + 2) // 5 + 1)
            out[0] = b" "
            out = self.two(out + 1, seconds // 3600)
            out[0] = b":"
            out = self.two(out + 1, seconds // 60 % 60)
            out[0] = b":"
            out = self.two(out + 1, seconds % 60)
            out = self.fraction(out, <u64>nanoseconds)
        self.right(text, out, &self.time_width)

    cdef inline char *two(self, char *out, i64 value) noexcept nogil:
        memcpy(out, PAIRS + 2 * value, 2)
        return out + 2

    cdef inline char *fraction(self, char *out, u64 nanoseconds) noexcept nogil:
        """A point and microseconds; what is finer is left to the other outputs."""
        cdef u64 value = nanoseconds // 1000
        out[0] = b"."
        out = self.two(out + 1, value // 10000)
        out = self.two(out, value // 100 % 100)
        return self.two(out, value % 100)

    cdef inline void mac(self, u64 mac) noexcept nogil:
        if mac == BROADCAST:
            self.literal(b"broadcast", 9)
        else:
            self.out = put_mac(self.out, mac)

    cdef inline void endpoint(self, u64 hi, u64 lo, int version, bint with_port, u16 port) noexcept nogil:
        cdef bint bracket = with_port and not (hi == 0 and lo >> 32 == V4_MAPPED and version != 6)
        if bracket:
            self.literal(b"[", 1)
        self.out = put_ip(self.out, hi, lo, version)
        if bracket:
            self.literal(b"]", 1)
        if with_port:
            self.literal(b":", 1)
            self.number(port)

    cdef void pair(self, const u8 *h, bint ports) noexcept nogil:
        """From whom to whom: IP addresses where there are, else MAC addresses."""
        cdef u32 have = get32(h + H_HAVE)
        cdef bint with_ports = ports and have & HAS_PORTS
        if have & HAS_IP:
            self.endpoint(get64(h + IP_SRC_HI), get64(h + IP_SRC_LO), h[IP_VERSION], with_ports, get16(h + SPORT))
            if ports:
                self.literal(b" > ", 3)
            else:
                self.literal(b">", 1)
            self.endpoint(get64(h + IP_DST_HI), get64(h + IP_DST_LO), h[IP_VERSION], with_ports, get16(h + DPORT))
        elif have & HAS_ETH:
            self.mac(get64(h + ETH_SRC))
            if have & HAS_ETH_DST:
                self.literal(b" > ", 3)
                self.mac(get64(h + ETH_DST))
        else:
            self.literal(b"-", 1)

    cdef inline void widen(self, const u8 *h, int *width, Py_ssize_t begin) noexcept nogil:
        """Only IPv4 addresses widen a column: a few IPv6 or MAC addresses would push everything else to the right for good."""
        cdef int size = <int>(self.column() - begin)
        if h[IP_VERSION] == 4 and size > width[0]:
            width[0] = size

    # -- the line ------------------------------------------------------------------------------------------------------------

    cdef int line(self, const u8 *row, list vantages, dynamic, const u8[::1] buffer, i64 offset) except -1:
        cdef char[32] digits
        cdef Py_ssize_t begin, middle
        cdef u64 have = get64(row + R_HAVE)
        cdef const u8 *h = row + INNER
        cdef u16 vantage = get16(row + VANTAGE)
        self.room(LINE)
        begin = self.out - self.begin
        self.hidden = begin  # column() counts from the start of this line
        self.paint(DIM)
        self.right(digits, put_unsigned(digits, get64(row + FRAME)), &self.frame_width)
        self.literal(b" ", 1)
        self.time(<i64>get64(row + TS))
        self.literal(b" ", 1)
        if vantages:
            if vantage < len(vantages):
                self.text(vantages[vantage])
            self.literal(b" ", 1)
        middle = self.column()
        if have & HAS_TUNNEL:
            self.pair(row + OUTER, False)
            self.widen(row + OUTER, &self.outer_width, middle)
            self.spaces(middle + self.outer_width - self.column())
            self.paint(OFF)
            self.literal(b" ", 1)
            begin = self.column()
            self.paint(NET0 + get32(row + VNI) % 6)
            self.network(row)
            if self.column() - begin > self.vni_width and row[DEPTH] < 2:
                self.vni_width = <int>(self.column() - begin)
            self.paint(OFF)
            self.spaces(begin + self.vni_width - self.column())
            self.literal(b" ", 1)
            begin = self.column()
            self.pair(h, True)
            self.widen(h, &self.inner_width, begin)
            self.spaces(begin + self.inner_width - self.column())
        else:
            h = row + OUTER
            self.paint(OFF)
            self.pair(h, True)
            self.widen(h, &self.plain_width, middle)
            self.spaces(middle + self.plain_width - self.column())
        self.literal(b" ", 1)
        self.what(row, h, have, dynamic, buffer, offset)
        self.marks(row, have)
        while (self.out - 1)[0] == 32:  # a frame of which nothing can be said
            self.out -= 1
        self.literal(b"\n", 1)
        return 0

    cdef int network(self, const u8 *row) except -1:
        if row[TUNNEL] != PLAIN_VXLAN and row[TUNNEL] < len(self.tunnels):
            self.text(self.tunnels[row[TUNNEL]])
            self.literal(b" ", 1)
        self.number(get32(row + VNI))
        if row[DEPTH] > 1:
            self.literal(b"/", 1)
            self.number(get32(row + INNER_VNI))
        return 0

    cdef int protocol(self, int colour, const char *name, int size) noexcept nogil:
        self.paint(colour)
        self.literal(name, size)
        self.paint(OFF)
        return 0

    cdef int what(self, const u8 *row, const u8 *h, u64 have, dynamic, const u8[::1] buffer, i64 offset) except -1:
        cdef u32 headers = get32(h + H_HAVE)
        if have & HAS_ARP:
            self.arp(row)
        elif have & HAS_DNS:
            self.protocol(DNS, b"DNS", 3)
            if have & HAS_TCP:
                self.literal(b"/TCP", 4)
            self.literal(b" ", 1)
            self.number(get16(row + DNS_ID))
            self.literal(b" ", 1)
            if dynamic is not None:
                self.text(dynamic(message_of(buffer, offset, get32(row + CAPLEN), get32(row + DNS_OFFSET), get32(row + DNS_LEN))))
        elif have & HAS_TCP:
            self.tcp(row, h, have)
        elif have & HAS_ICMP:
            self.icmp_line(row, h, have)
        elif have & HAS_ESP:
            self.protocol(OTHER, b"ESP", 3)
            self.literal(b" spi 0x", 7)
            self.hex32(get32(row + ESP_SPI))
            self.literal(b" seq ", 5)
            self.number(get32(row + ESP_SEQ))
        elif headers & HAS_UDP:
            self.protocol(UDP, b"UDP", 3)
            self.control(row)
            if have & HAS_PAYLOAD:
                self.literal(b" len ", 5)
                self.number(get32(row + PAYLOAD_LEN))
        elif headers & HAS_IP:
            self.paint(UDP if h[PROTO] == 17 else TCP if h[PROTO] == 6 else ICMP if h[PROTO] == 1 or h[PROTO] == 58 else OTHER)
            self.ip_protocol(h[PROTO])
            self.paint(OFF)
            if headers & HAS_FRAG and h[FRAG] == LATER:
                self.literal(b" fragment at ", 13)
                self.number(get32(h + FRAG_OFFSET))
                if headers & HAS_IP_ID:
                    self.literal(b" of id ", 7)
                    self.number(get32(h + IP_ID))
        elif headers & HAS_ETHERTYPE:
            self.paint(OTHER)
            self.ether_type(get16(h + ETHERTYPE))
            self.paint(OFF)
            self.literal(b" len ", 5)
            self.number(get32(row + WIRELEN))
        elif headers & HAS_ETH and not row[STOP]:
            self.protocol(OTHER, b"802.3", 5)
            self.literal(b" len ", 5)
            self.number(get32(row + WIRELEN))
        return 0

    cdef int control(self, const u8 *row) noexcept nogil:
        if row[CONTROL] == GOSSIP:
            self.literal(b" gossip", 7)
        elif row[CONTROL] == MANAGEMENT:
            self.literal(b" management", 11)
        return 0

    cdef void hex32(self, u32 value) noexcept nogil:
        cdef int i
        for i in range(4):
            self.literal(HEX + 2 * ((value >> (24 - 8 * i)) & 0xFF), 2)

    cdef int ip_protocol(self, u8 number) except -1:
        cdef bytes name = self.protocols[number]
        if name:
            self.text(name)
        else:
            self.literal(b"protocol ", 9)
            self.number(number)
        return 0

    cdef int ether_type(self, u16 number) except -1:
        name = self.ethertypes.get(number)
        if name is not None:
            self.text(name)
        else:
            self.literal(b"ethertype 0x", 12)
            self.literal(HEX + 2 * (number >> 8), 2)
            self.literal(HEX + 2 * (number & 0xFF), 2)
        return 0

    cdef void arp(self, const u8 *row) noexcept nogil:
        cdef u16 operation = get16(row + ARP_OP)
        cdef u32 sender = get32(row + ARP_SPA), target = get32(row + ARP_TPA)
        self.protocol(ARP, b"ARP", 3)
        if operation == 1 and sender == target:
            self.literal(b" announce ", 10)
            self.out = put_ipv4(self.out, target)
        elif operation == 1:
            self.literal(b" who-has ", 9)
            self.out = put_ipv4(self.out, target)
            if get64(row + ARP_THA) and get64(row + ARP_THA) != BROADCAST:  # a unicast probe of a neighbour that is known
                self.literal(b" (", 2)
                self.out = put_mac(self.out, get64(row + ARP_THA))
                self.literal(b")", 1)
            self.literal(b" tell ", 6)
            self.out = put_ipv4(self.out, sender)
        elif operation == 2:
            self.literal(b" ", 1)
            self.out = put_ipv4(self.out, sender)
            self.literal(b" is-at ", 7)
            self.out = put_mac(self.out, get64(row + ARP_SHA))
        else:
            self.literal(b" operation ", 11)
            self.number(operation)

    # -- TCP -----------------------------------------------------------------------------------------------------------------

    cdef u64 direction(self, const u8 *row, const u8 *h, u64 have, bint back) noexcept nogil:
        """A 64-bit name for one direction of a connection (never 0): network, addresses, ports."""
        cdef u64 network = get32(row + INNER_VNI) + 1 if have & HAS_TUNNEL else 0
        cdef u64 sport = get16(h + SPORT), dport = get16(h + DPORT)
        cdef u64 here = get64(h + IP_SRC_HI) ^ mix(get64(h + IP_SRC_LO) + sport)
        cdef u64 there = get64(h + IP_DST_HI) ^ mix(get64(h + IP_DST_LO) + dport)
        if back:
            here, there = there, here
        return mix(mix(here + network) + there) | 1

    cdef i64 since(self, u64 key, u32 number, bint restart, bint first_is_zero) noexcept nogil:
        """How far `number` is from the first one seen of this direction, which counts as 1 (0 where it is a SYN's), as tshark has it. Where two directions
        fall on one of the FLOWS places, the newer one counts anew."""
        cdef Flow *flow = &self.flows[key >> 48]
        if flow.key != key or restart:
            flow.key = key
            flow.base = number if first_is_zero else number - 1
        return <int>(number - flow.base)

    cdef int tcp(self, const u8 *row, const u8 *h, u64 have) noexcept nogil:
        cdef u16 flags = get16(row + TCP_FLAGS)
        cdef u32 length = get32(row + PAYLOAD_LEN) if have & HAS_PAYLOAD else 0
        cdef i64 seq = 0, ack = 0
        cdef char *start
        cdef Py_ssize_t size
        if not self.settling:
            seq = self.since(self.direction(row, h, have, False), get32(row + TCP_SEQ), flags & SYN, flags & SYN)
            if flags & ACK:
                ack = self.since(self.direction(row, h, have, True), get32(row + TCP_ACK), False, False)
        self.protocol(TCP, b"TCP", 3)
        self.control(row)
        self.literal(b" ", 1)
        if flags & RST:
            self.paint(ALARM)
        start = self.out
        if flags & SYN:
            self.literal(b"S", 1)
        if flags & FIN:
            self.literal(b"F", 1)
        if flags & RST:
            self.literal(b"R", 1)
        if flags & PSH:
            self.literal(b"P", 1)
        if flags & URG:
            self.literal(b"U", 1)
        if flags & ECE:
            self.literal(b"E", 1)
        if flags & CWR:
            self.literal(b"W", 1)
        if flags & AE:
            self.literal(b"e", 1)
        if flags & ACK:
            self.literal(b".", 1)
        elif not flags & 0xFF:
            self.literal(b"none", 4)
        size = self.out - start
        if flags & RST:
            self.paint(OFF)
        self.spaces(2 - size)
        if length or flags & (FIN | RST):
            if not flags & SYN:
                self.literal(b" ", 1)
                self.out = put_signed(self.out, seq)
            if length:
                if flags & SYN:
                    self.literal(b" 0", 2)
                self.literal(b":", 1)
                self.out = put_signed(self.out, seq + length)
        if flags & ACK and not flags & SYN:
            self.literal(b" ack ", 5)
            self.out = put_signed(self.out, ack)
        self.literal(b" win ", 5)
        self.number(get16(row + TCP_WINDOW))
        if have & HAS_MSS:
            self.literal(b" mss ", 5)
            self.number(get16(row + TCP_MSS))
        return 0

    # -- ICMP ----------------------------------------------------------------------------------------------------------------

    cdef int icmp_line(self, const u8 *row, const u8 *h, u64 have) except -1:
        cdef bint six = h[IP_VERSION] == 6
        cdef u32 key = (6 if six else 4) << 16 | row[ICMP_TYPE] << 8 | row[ICMP_CODE]
        self.protocol(ICMP, b"ICMPv6" if six else b"ICMP", 6 if six else 4)
        self.literal(b" ", 1)
        name = self.icmp.get(key)
        if name is None:
            name = self.icmp.get(key | 0xFF)
        if name is not None:
            self.text(name)
        else:
            self.literal(b"type ", 5)
            self.number(row[ICMP_TYPE])
            self.literal(b" code ", 6)
            self.number(row[ICMP_CODE])
        if have & HAS_ECHO:
            self.literal(b" id ", 4)
            self.number(get16(row + ICMP_ID))
            self.literal(b" seq ", 5)
            self.number(get16(row + ICMP_SEQ))
        if have & HAS_MTU:
            self.literal(b" mtu ", 5)
            self.number(get32(row + ICMP_MTU))
        if have & HAS_QUOTED:
            self.literal(b": ", 2)
            self.ip_protocol(row[Q_PROTO])
            self.literal(b" ", 1)
            self.endpoint(get64(row + Q_SRC_HI), get64(row + Q_SRC_LO), 6 if six else 4, have & HAS_QUOTED_PORTS, get16(row + Q_SPORT))
            self.literal(b" > ", 3)
            self.endpoint(get64(row + Q_DST_HI), get64(row + Q_DST_LO), 6 if six else 4, have & HAS_QUOTED_PORTS, get16(row + Q_DPORT))
        return 0

    # -- marks: what is unusual about a frame, in brackets at the end of its line -----------------------------------------------

    cdef void mark(self, int colour) noexcept nogil:
        if self.marked:
            self.literal(b", ", 2)
        else:
            self.literal(b" [", 2)
        self.marked = True
        self.paint(colour)

    cdef int marks(self, const u8 *row, u64 have) except -1:
        cdef bint tunnel = have & HAS_TUNNEL
        self.marked = False
        if row[DEPTH] > 1:
            self.mark(WARN)
            self.literal(b"depth ", 6)
            self.number(row[DEPTH])
            self.paint(OFF)
        if have & HAS_TUNNEL and row[GUESSED]:
            self.mark(WARN)
            self.literal(b"guessed, port ", 14)
            self.number(get16(row + OUTER + DPORT))
            self.paint(OFF)
        if have & HAS_VXLAN and not get32(row + VXLAN_WORD) & 0x08000000:
            self.mark(ALARM)
            self.literal(b"I flag clear", 12)
            self.paint(OFF)
        if have & HAS_GBP:
            self.mark(DIM)
            self.literal(b"policy ", 7)
            self.number(get16(row + GBP_POLICY))
            self.paint(OFF)
        if row[REASSEMBLED]:
            self.mark(WARN)
            self.literal(b"reassembled from ", 17)
            self.number(row[REASSEMBLED])
            self.paint(OFF)
        self.header_marks(row + OUTER, b"outer ", 6 if tunnel else 0)
        if tunnel:
            self.header_marks(row + INNER, b"inner ", 6)
        if row[STOP]:
            self.stop(row)
        if self.marked:
            self.literal(b"]", 1)
        return 0

    cdef int header_marks(self, const u8 *h, const char *prefix, int prefix_size) except -1:
        cdef u32 have = get32(h + H_HAVE)
        if have & HAS_VLAN:
            self.mark(DIM)
            self.literal(prefix, prefix_size)
            self.literal(b"vlan ", 5)
            self.number(get16(h + VLAN))
            self.paint(OFF)
        if have & HAS_FRAG and h[FRAG] == FIRST:
            self.mark(WARN)
            self.literal(prefix, prefix_size)
            self.literal(b"first fragment", 14)
            if have & HAS_IP_ID:
                self.literal(b" of id ", 7)
                self.number(get32(h + IP_ID))
            self.paint(OFF)
        if h[CHECKSUM_CLASS] > GOOD and h[CHECKSUM_CLASS] < len(self.classes):  # no checksum at all is what RFC 7348 recommends
            self.mark(ALARM if h[CHECKSUM_CLASS] == BAD else DIM)
            self.literal(prefix, prefix_size)
            self.literal(b"checksum ", 9)
            self.text(self.classes[h[CHECKSUM_CLASS]])
            self.paint(OFF)
        if h[IP_CHECKSUM_CLASS] == BAD:
            self.mark(ALARM)
            self.literal(prefix, prefix_size)
            self.literal(b"IP checksum bad", 15)
            self.paint(OFF)
        return 0

    cdef int stop(self, const u8 *row) except -1:
        cdef u8 why = row[STOP]
        if why >= len(self.stops):
            return 0
        self.mark(ALARM if why == STOP_TRUNCATED or why == STOP_MALFORMED else WARN)
        self.text(self.stops[why])
        if why == STOP_DEPTH:
            self.literal(b" limit:", 7)
        if why == STOP_UNSUPPORTED:
            self.literal(b" link type ", 11)
            self.number(get16(row + LINKTYPE))
        elif row[STOP_LAYER] and row[STOP_LAYER] < len(self.layers):
            self.literal(b" ", 1)
            self.text(self.layers[row[STOP_LAYER]])
            self.literal(b" at byte ", 9)
            self.number(get32(row + STOP_OFFSET))
            if why != STOP_MALFORMED and why != STOP_DEPTH:
                self.literal(b", wants ", 8)
                self.number(get32(row + STOP_WANTED))
        self.paint(OFF)
        return 0
