#!/usr/bin/env python3
"""As transfers.py, with psycopg and PostgreSQL: the same commands, the same answers, the same verdict."""

import random
import sys
import threading
import time

import psycopg

ACCOUNTS = 40
BALANCE = 1000
ANSWER_SECONDS = 60
RECONNECT_PAUSE = 0.01
REST_PAUSE = 0.2
# The server rolled the transaction back, and says so.
ROLLED_BACK = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)


def connect(port):
    return psycopg.connect(
        host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=ANSWER_SECONDS)


def eventually(port, work):
    """Does `work` on a connection, again with a new one whenever one breaks."""
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            with connect(port) as connection:
                return work(connection)
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(RECONNECT_PAUSE)


def prepare(connection):
    connection.execute("DROP TABLE IF EXISTS account, journal")
    connection.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)")
    # No unique key: a transaction that happened twice must show.
    connection.execute("CREATE TABLE journal (client INT, name INT, source INT, target INT, "
                       "at TIMESTAMP DEFAULT clock_timestamp(), dice DOUBLE PRECISION DEFAULT random())")
    connection.execute("INSERT INTO account SELECT n, %s FROM generate_series(0, %s) n", (BALANCE, ACCOUNTS - 1))
    connection.commit()


class Client(threading.Thread):
    """One client; `acknowledged` and `unknown` hold names."""

    def __init__(self, port, number, shared):
        super().__init__(daemon=True)
        self.port, self.number, self.shared = port, number, shared
        self.dice = random.Random(number)
        self.acknowledged, self.unknown = [], []

    def run(self):
        connection, name = None, 0
        while not self.shared.stop.is_set():
            if connection is None:
                try:
                    connection = connect(self.port)
                except psycopg.OperationalError:
                    time.sleep(RECONNECT_PAUSE)
                continue
            name += 1
            try:
                if self.transfer(connection, name):
                    self.acknowledged.append(name)
            except psycopg.OperationalError:
                self.unknown.append(name)
                connection.close()
                connection = None
            if self.shared.rest.is_set():
                self.shared.stop.wait(REST_PAUSE)

    def transfer(self, connection, name):
        """True if the server said that the transaction is committed, false if it said that it is not."""
        source, target = self.dice.sample(range(ACCOUNTS), 2)
        try:
            connection.execute("SELECT balance FROM account WHERE id = %s FOR UPDATE", (source,))
            connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (source,))
            connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (target,))
            connection.execute("INSERT INTO journal VALUES (%s, %s, %s, %s)", (self.number, name, source, target))
            connection.commit()
            return True
        except ROLLED_BACK:
            connection.rollback()
            return False


class Shared:
    """What all clients look at."""

    def __init__(self):
        self.stop, self.rest = threading.Event(), threading.Event()


def compare(connection, clients):
    journal = connection.execute("SELECT client, name, source, target FROM journal").fetchall()
    balances = dict(connection.execute("SELECT id, balance FROM account").fetchall())
    names = {(client, name) for client, name, _, _ in journal}
    if len(names) != len(journal):
        return f"wrong {len(journal) - len(names)} transactions happened twice"
    expected = dict.fromkeys(range(ACCOUNTS), BALANCE)
    for _, _, source, target in journal:
        expected[source] -= 1
        expected[target] += 1
    if expected != balances:
        return f"wrong the journal makes {expected}, the table has {balances}"
    acknowledged = {(client.number, name) for client in clients for name in client.acknowledged}
    unknown = {(client.number, name) for client in clients for name in client.unknown}
    if not acknowledged <= names:
        return f"wrong acknowledged and lost: {sorted(acknowledged - names)[:10]}"
    if not names <= acknowledged | unknown:
        return f"wrong said to be rolled back, but there: {sorted(names - acknowledged - unknown)[:10]}"
    done = len(names & unknown)
    return f"ok {len(acknowledged)} {done} {len(unknown) - done}"


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    eventually(port, prepare)
    shared = Shared()
    clients = [Client(port, number, shared) for number in range(count)]
    for client in clients:
        client.start()
    for line in sys.stdin:
        command = line.strip()
        if command == "rest":
            shared.rest.set()
        elif command == "go":
            shared.rest.clear()
        if command != "finish":
            print(sum(len(client.acknowledged) for client in clients), flush=True)
            continue
        shared.stop.set()
        for client in clients:
            client.join()
        print(eventually(port, lambda connection: compare(connection, clients)), flush=True)
        break


main()
