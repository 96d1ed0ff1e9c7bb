"""A master and three workers that accept from one socket. `/crash` makes a worker read address 0, `/divide` divide by it, and
`/end` the master; the master prints how its workers end, and starts others."""
import ctypes
import os
import signal
import socket
import sys

listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("0.0.0.0", int(sys.argv[1])))
listener.listen(64)
master = os.getpid()


def work():
    while True:
        client, _ = listener.accept()
        path = (client.recv(1000).split(b" ") + [b""])[1]
        if path == b"/crash":
            ctypes.string_at(0)
        if path == b"/divide":
            os.kill(os.getpid(), signal.SIGFPE)
        if path == b"/end":
            os.kill(master, signal.SIGSEGV)
        body = b"%d" % os.getpid()
        client.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        client.close()


def start():
    if os.fork() == 0:
        work()


for _ in range(3):
    start()
while True:
    pid, status = os.wait()
    print(f"worker {pid} ended by signal {os.WTERMSIG(status)}", flush=True)
    start()
