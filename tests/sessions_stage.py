# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a lab guest as root: opens sockets of every kind that `ktlsctl sessions` tells apart, and holds them.

    python3 sessions_stage.py NGINX DIRECTORY    DIRECTORY has key.pem and cert.pem

Prints one JSON line once all are there: {"server": PID, "raw": PID, "blue": PID}.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

NGINX_CONF = """
user root; worker_processes 1; pid {d}/nginx.pid; error_log {d}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; sendfile on; keepalive_timeout 600; root {d};
  client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3; uwsgi_temp_path {d}/t4;
  scgi_temp_path {d}/t5;
  server {{
    listen 127.0.0.1:8443 ssl; listen [::1]:8443 ssl;
    ssl_certificate {d}/cert.pem; ssl_certificate_key {d}/key.pem;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_ciphers ALL; ssl_conf_command Options KTLS;
  }}
}}
"""
OP_ENABLE_KTLS = 8
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

#: address of nginx, version, cipher
TO_NGINX = (
    ("127.0.0.1", TLS12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("127.0.0.1", TLS12, "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("::1", TLS13, None),
)
TO_PYTHON = ("ECDHE-ECDSA-AES128-CCM", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES256-GCM-SHA384")


def client(address: tuple[str, int], version: ssl.TLSVersion, cipher: str | None) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if cipher is not None:
        context.set_ciphers(cipher)
    return context.wrap_socket(socket.create_connection(address, timeout=60))


def pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


def serve(directory: str) -> None:
    """The Python server: says its port, answers each client once, holds the connections."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{directory}/cert.pem", f"{directory}/key.pem")
    context.set_ciphers("ALL")
    context.options |= OP_ENABLE_KTLS
    held = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        for _ in TO_PYTHON:
            sock = context.wrap_socket(listener.accept()[0], server_side=True)
            sock.sendall(sock.recv(100))
            held.append(sock)
    time.sleep(3600)


def raw() -> None:
    """By hand: a key that the kernel refuses, a socket that is never keyed, one that works."""
    held = []
    for cipher, size in ((55, 36), (None, 0), (51, 36)):
        ours, theirs = pair()
        ours.setsockopt(6, 31, b"tls")
        if cipher is not None:
            try:
                ours.setsockopt(282, 1, struct.pack("=HH", 0x303, cipher) + bytes(size))
            except FileNotFoundError:  # no SM4 in Debian's kernels
                assert cipher == 55
        held += [ours, theirs]
    print("ready", flush=True)
    time.sleep(3600)


def started(*argv: str) -> tuple[subprocess.Popen[str], str]:
    """A process and its first line."""
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    return child, child.stdout.readline().strip()


def stage(nginx: str, directory: str) -> None:
    with open(f"{directory}/file", "wb") as file:
        file.write(os.urandom(1 << 18))
    with open(f"{directory}/nginx.conf", "w", encoding="ascii") as conf:
        conf.write(NGINX_CONF.format(d=directory))
    subprocess.run([*nginx.split(), "-p", directory, "-c", f"{directory}/nginx.conf"], check=True)
    held = []
    for address, version, cipher in TO_NGINX:
        sock = client((address, 8443), version, cipher)
        sock.sendall(b"GET /file HTTP/1.1\r\nHost: x\r\n\r\n")
        received = 0
        while received < 1 << 18:
            received += len(sock.recv(1 << 16))
        held.append(sock)
    me = (sys.executable, os.path.abspath(__file__))
    server, port = started(*me, "serve", directory)
    for cipher in TO_PYTHON:
        sock = client(("127.0.0.1", int(port)), TLS12, cipher)
        sock.sendall(b"ping")
        assert sock.recv(4) == b"ping"
        held.append(sock)
    hand, _ = started(*me, "raw")
    subprocess.run(["ip", "netns", "add", "blue"], check=True)
    subprocess.run(["ip", "-n", "blue", "link", "set", "lo", "up"], check=True)
    blue, _ = started("ip", "netns", "exec", "blue", *me, "raw")
    time.sleep(1)  # the last acknowledgements
    print(json.dumps({"server": server.pid, "raw": hand.pid, "blue": blue.pid}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    elif sys.argv[1] == "raw":
        raw()
    else:
        stage(sys.argv[1], sys.argv[2])
