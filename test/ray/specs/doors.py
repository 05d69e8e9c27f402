"""Knocks at ports in different ways, and prints as JSON what answered.

Arguments: the way, and then addresses. The ways are:
plaintext       an HTTP/2 preface without TLS, as gRPC without TLS sends it, and where that is refused an HTTP/1 request
no-certificate  TLS without a client certificate
certificate     TLS with the certificate of this pod

The answers are:
in        a gRPC server took the connection: it sent its HTTP/2 settings
HTTP      a web server answered
closed    the server ended the connection, or the handshake
not TLS   the server does not speak TLS
silent    nothing came within the time
"""

import concurrent.futures
import json
import socket
import ssl
import sys

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"  # and empty settings
FILES = "/etc/ray/tls/"
SECONDS = 5


def connect(address):
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=SECONDS)
    connection.settimeout(SECONDS)
    return connection


def wrap(connection, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # who knocks accepts any server
    context.set_alpn_protocols(["h2"])
    if certificate:
        context.load_cert_chain(FILES + "tls.crt", FILES + "tls.key")
    return context.wrap_socket(connection)


def answer(connection, request):
    connection.sendall(request)
    got = b""
    while len(got) < 9:
        more = connection.recv(4096)
        if not more:
            break
        got += more
    if len(got) >= 9 and got[3] == 4:  # the type of a settings frame
        return "in"
    if got.startswith(b"HTTP/"):
        return "HTTP"
    return "closed"


def knock(way, address):
    try:
        with connect(address) as connection:
            if way == "plaintext":
                first = answer(connection, PREFACE)
            else:
                try:
                    tls = wrap(connection, way == "certificate")
                except ssl.SSLError as error:
                    return "not TLS" if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE") else "closed"
                return answer(tls, PREFACE)
        if first != "closed":
            return first
        with connect(address) as connection:
            return answer(connection, b"GET / HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")
    except (TimeoutError, socket.timeout):
        return "silent"
    except (ssl.SSLError, ConnectionError):
        return "closed"


way, addresses = sys.argv[1], sys.argv[2:]
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print(json.dumps(dict(zip(addresses, pool.map(lambda a: knock(way, a), addresses)))))
