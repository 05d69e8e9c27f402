"""Records every TCP stream on this node: who opened it, its first bytes each way, and which markers appear in it.

It needs the capability NET_RAW in the node's network. Arguments: the file that it keeps up to date, and the beginning of
all markers. A marker is that text and the letters, digits and dashes behind it. Bytes that were lost are counted.
"""

import json
import os
import re
import socket
import struct
import sys
import time

FILE, BEGINNING = sys.argv[1], sys.argv[2].encode()
MARKER = re.compile(re.escape(BEGINNING) + rb"[A-Za-z0-9-]{0,48}")
LONGEST = len(BEGINNING) + 48
SYN, ACK = 0x02, 0x10
PACKET_STATISTICS, SOL_PACKET, SO_RCVBUFFORCE = 6, 263, 33


class Direction:
    """One direction of a stream, read in the order of its bytes."""

    def __init__(self, start=None):
        self.next, self.first, self.tail, self.lost, self.bytes = start, b"", b"", 0, 0

    def take(self, sequence, payload, markers):
        if self.next is None:
            self.next = sequence
        ahead = (sequence - self.next) & 0xFFFFFFFF
        if ahead >= 1 << 31:  # seen before, on another interface
            old = (1 << 32) - ahead
            if old >= len(payload):
                return
            payload, ahead = payload[old:], 0
        elif ahead:
            self.lost += ahead
            self.tail = b""
        self.next = (self.next + ahead + len(payload)) & 0xFFFFFFFF
        self.bytes += len(payload)
        if len(self.first) < 32:
            self.first += bytes(payload[: 32 - len(self.first)])
        window = self.tail + bytes(payload)
        if BEGINNING in window:
            markers.update(m.decode() for m in MARKER.findall(window))
        self.tail = window[-LONGEST:]


class Stream:
    """A connection. Its client is who sent the SYN; complete reports whether that was seen."""

    def __init__(self, client, server, complete):
        self.client, self.server, self.complete = client, server, complete
        self.began, self.markers = time.time(), set()
        self.sent = {client: Direction(), server: Direction()}

    def told(self):
        sides = [self.sent[self.client], self.sent[self.server]]
        return {
            "client": self.client, "server": self.server, "complete": self.complete, "began": self.began,
            "clientBegins": sides[0].first.hex(), "serverBegins": sides[1].first.hex(),
            "bytes": sum(s.bytes for s in sides), "lost": sum(s.lost for s in sides), "markers": sorted(self.markers),
        }


def parse(packet):
    """Gives source, destination, sequence number, flags and payload of a TCP packet; nothing for others."""
    version = packet[0] >> 4
    if version == 4 and packet[9] == 6:
        header, length = (packet[0] & 15) * 4, struct.unpack_from("!H", packet, 2)[0] or len(packet)
        source, target = socket.inet_ntop(socket.AF_INET, packet[12:16]), socket.inet_ntop(socket.AF_INET, packet[16:20])
    elif version == 6 and packet[6] == 6:
        header, length = 40, 40 + struct.unpack_from("!H", packet, 4)[0] or len(packet)
        source, target = "[" + socket.inet_ntop(socket.AF_INET6, packet[8:24]) + "]", "[" + socket.inet_ntop(socket.AF_INET6, packet[24:40]) + "]"
    else:
        return None
    ports = struct.unpack_from("!HHI", packet, header)
    begin = header + (packet[header + 12] >> 4) * 4
    return f"{source}:{ports[0]}", f"{target}:{ports[1]}", ports[2], packet[header + 13], packet[begin:length]


streams, ended, dropped = {}, [], 0


def see(packet):
    parsed = parse(packet)
    if parsed is None:
        return
    source, target, sequence, flags, payload = parsed
    key = frozenset((source, target))
    stream = streams.get(key)
    if flags & SYN and not flags & ACK:
        begin = (sequence + 1) & 0xFFFFFFFF
        if stream is None or not stream.complete or stream.sent[stream.client].next != begin and stream.sent[stream.client].bytes:
            if stream is not None:
                ended.append(stream)  # its ports are used again
            stream = streams[key] = Stream(source, target, True)
        stream.sent[source].next = begin
        return
    if stream is None:
        if not payload:
            return
        stream = streams[key] = Stream(source, target, False)
    if flags & SYN:
        stream.sent[source].next = (sequence + 1) & 0xFFFFFFFF
    elif payload:
        stream.sent[source].take(sequence, payload, stream.markers)


def write():
    text = json.dumps({"dropped": dropped, "streams": [s.told() for s in [*ended, *streams.values()]]})
    with open(FILE + ".part", "w") as out:
        out.write(text)
    os.replace(FILE + ".part", FILE)


capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # every protocol, without the link's header
capture.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 256 << 20)
capture.settimeout(0.5)
written, buffer = 0.0, bytearray(1 << 17)
while True:
    try:
        size, (interface, protocol, *_) = capture.recvfrom_into(buffer)
        if interface != "lo" and protocol in (0x0800, 0x86DD):
            see(memoryview(buffer)[:size].tobytes())
    except TimeoutError:
        pass
    if time.monotonic() - written > 1:
        dropped += struct.unpack("II", capture.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        write()
        written = time.monotonic()
