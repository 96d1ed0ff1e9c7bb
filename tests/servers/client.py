"""Adds entries to a ledger by `http.client`, some threads at once, and looks whether all of them are there."""
import http.client
import sys
import threading

port, threads, each = (int(word) for word in sys.argv[1:])
added = []


def run(own):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(each):
        text = f"python {own} {number}"
        connection.request("PUT", "/add", body=text)
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        added.append((int(answer.read()), text))


running = [threading.Thread(target=run, args=(own,)) for own in range(threads)]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
connection.request("GET", "/list")
entries = connection.getresponse().read().decode().split("\n")
assert len(added) == threads * each, f"{len(added)} of {threads * each} were acknowledged"
for number, text in added:
    assert entries[number - 1] == text, f"entry {number} is {entries[number - 1]!r} and not {text!r}"
print(f"{len(added)} entries added, all in their places")
