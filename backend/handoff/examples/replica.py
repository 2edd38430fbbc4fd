#!/usr/bin/env python3
"""A replica that takes clients over from lb by hand-off and serves HTTP on their sockets, and on PORT over plain TCP.

Nothing but the standard library (3.9 or newer). The protocol is specified in docs/HANDOFF.md.
"""

import errno, os, socket, struct, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HEADER = struct.Struct("<QBBBBHH")  # number, version, attempt, flags, lengths of slot, key and request id
MOST = 500  # open connections for each lb; others wait in the queue, and when it is full lb chooses another replica


class Hello(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75
    disable_nagle_algorithm = True

    def do_GET(self):
        body = f"hello from {os.environ.get('SERVER_ID', 'python')}: {self.path}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(lb, room, number, client):
    try:
        with client:
            client.setblocking(True)
            Hello(client, client.getpeername(), None)
    except OSError:
        pass  # the client has left
    finally:
        report(lb, number)
        room.release()


def report(lb, number):
    try:
        lb.send(struct.pack("<Q", number))
    except OSError:
        pass  # lb is gone; its connections go on


def is_understood(message, sockets):
    if len(message) < HEADER.size or len(sockets) > 1:
        return False
    _, version, _, flags, slot, key, request_id = HEADER.unpack_from(message)
    length = HEADER.size + slot + key + (0 if request_id == 65535 else request_id)
    return version == 1 and flags < 8 and length == len(message)


def receive(lb):
    room = threading.Semaphore(MOST)
    while room.acquire():
        try:
            message, sockets, _, _ = socket.recv_fds(lb, 4096, 2, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # comes once, before the messages that are still in the queue
            message, sockets, _, _ = socket.recv_fds(lb, 4096, 2, socket.MSG_CMSG_CLOEXEC)
        if not is_understood(message, sockets):  # this includes the end of the stream: 0 bytes
            for descriptor in sockets:
                os.close(descriptor)
            return lb.shutdown(socket.SHUT_RDWR)
        number = HEADER.unpack_from(message)[0]
        if sockets:
            client = socket.socket(fileno=sockets[0])
            threading.Thread(target=serve, args=(lb, room, number, client), daemon=True).start()
        else:  # lost: this process has no free descriptor
            report(lb, number)
            room.release()


def is_stale(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        return os.path.exists(path) and probe.connect_ex(path) == errno.ECONNREFUSED


def main():
    own = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 0))), Hello)
    threading.Thread(target=own.serve_forever, daemon=True).start()
    path = os.environ["LB_HANDOFF"]
    if is_stale(path):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(path)
        listener.listen()
        print(f"listening on {path} and on port {own.server_port}", flush=True)
        while True:
            threading.Thread(target=receive, args=(listener.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()
