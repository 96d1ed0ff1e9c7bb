"""A ledger over HTTP, with a thread for each connection. What all servers in this directory do:

PUT /add     appends the body to the ledger, in memory and in the file `ledger`; the answer is its number
GET /list    all of it, a line each
GET /chance  what would differ between two copies: random numbers, clocks, thread ids, addresses
GET /work    computes for some milliseconds and allocates
"""
import os
import random
import socket
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

entries = []
lock = threading.Lock()
file = open("ledger", "a")


def add(text):
    with lock:
        entries.append(text)
        file.write(text + "\n")
        file.flush()
        return len(entries)


def chance():
    temporary = os.urandom(8).hex()
    return (
        f"{random.random()} {uuid.uuid4()} {time.time()} {time.perf_counter_ns()} {threading.get_ident()} "
        f"{threading.get_native_id()} {id(object())} {hash('ledger')} {temporary} {os.getpid()} {os.cpu_count()} "
        f"{len(os.sched_getaffinity(0))} {socket.gethostname()} {time.process_time()}"
    )


def work():
    words = {}
    for number in range(20000):
        words.setdefault(f"word {number * 31 % 977}", []).append(number)
    return sum(len(numbers) * hash(numbers[-1]) for numbers in words.values())


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, code, text):
        body = str(text).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        if self.path == "/list":
            with lock:
                text = "".join(entry + "\n" for entry in entries)
            self.answer(200, text)
        elif self.path == "/chance":
            self.answer(200, chance())
        elif self.path == "/work":
            self.answer(200, work())
        else:
            self.answer(404, "nothing here\n")

    def do_PUT(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer(200, add(text))

    def log_message(self, *_):
        pass


ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
