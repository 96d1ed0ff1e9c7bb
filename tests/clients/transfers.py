#!/usr/bin/env python3
"""Clients that move money between accounts of a database and note every transaction that it acknowledged.

Each transaction also writes its own name into a table. A transaction whose answer did not come may or may not have
happened; its name is never used again. In the end each acknowledged name must be there once, no name twice, and the
balances must be what the transactions in the table make of them.

Usage: transfers.py DRIVER PORT CLIENTS, where DRIVER is pymysql (MariaDB), psycopg (PostgreSQL) or redis, with commands on
standard input, one in a line, each answered by one line:
  count    acknowledged transactions so far
  rest     a few transactions a second from now on (a replica that comes back replays the whole log)
  go       as many as the server takes
  finish   stops, compares, and ends: `ok ACKNOWLEDGED UNKNOWN_DONE UNKNOWN_LOST`, or `wrong REASON`
"""

import importlib
import random
import sys
import threading
import time

ACCOUNTS = 40
BALANCE = 1000
ANSWER_SECONDS = 60
RECONNECT_PAUSE = 0.01
REST_PAUSE = 0.2


class Sql:
    """What clients of databases do; tables are made of JOURNAL."""

    def prepare(self, connection):
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS account, journal")
            cursor.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL)")
            cursor.execute(f"CREATE TABLE journal ({self.JOURNAL})")
            cursor.executemany("INSERT INTO account VALUES (%s, %s)", [(n, BALANCE) for n in range(ACCOUNTS)])
        connection.commit()

    def transfer(self, connection, client, name, source, target):
        """True if the server said that the transaction is committed, false if it said that it is not."""
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT balance FROM account WHERE id = %s FOR UPDATE", (source,))
                cursor.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (source,))
                cursor.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (target,))
                cursor.execute("INSERT INTO journal (client, name, source, target) VALUES (%s, %s, %s, %s)",
                               (client, name, source, target))
            connection.commit()
            return True
        except self.broken as error:
            if not self.rolled_back(error):
                raise
            connection.rollback()
            return False

    def read(self, connection):
        """The journal, and the balances."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT client, name, source, target FROM journal")
            journal = cursor.fetchall()
            cursor.execute("SELECT id, balance FROM account")
            return journal, dict(cursor.fetchall())


class Pymysql(Sql):
    """Clients of MariaDB."""

    # No unique key, here and below: a transaction that happened twice must show.
    JOURNAL = ("client INT, name INT, source INT, target INT, at DATETIME(6) DEFAULT NOW(6), "
               "dice DOUBLE DEFAULT RAND(), KEY (client, name)")
    # A deadlock, a wait for a lock that was too long.
    ROLLED_BACK = (1213, 1205)

    def __init__(self):
        self.library = importlib.import_module("pymysql")
        self.broken = (self.library.err.OperationalError, self.library.err.InterfaceError, OSError)

    def connect(self, port):
        return self.library.connect(
            host="127.0.0.1", port=port, user="root", database="test", read_timeout=ANSWER_SECONDS,
            write_timeout=ANSWER_SECONDS, connect_timeout=ANSWER_SECONDS, autocommit=False)

    def rolled_back(self, error):
        return error.args[0] in self.ROLLED_BACK


class Psycopg(Sql):
    """Clients of PostgreSQL."""

    JOURNAL = ("client INT, name INT, source INT, target INT, at TIMESTAMP DEFAULT clock_timestamp(), "
               "dice DOUBLE PRECISION DEFAULT random()")

    def __init__(self):
        self.library = importlib.import_module("psycopg")
        self.broken = (self.library.OperationalError, OSError)

    def connect(self, port):
        return self.library.connect(
            host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=ANSWER_SECONDS)

    def rolled_back(self, error):
        errors = self.library.errors
        return isinstance(error, (errors.DeadlockDetected, errors.SerializationFailure))


class Redis:
    """Clients of redis: a transaction is a pipeline between MULTI and EXEC, or a script."""

    SCRIPT = ("redis.call('DECR', KEYS[1]) redis.call('INCR', KEYS[2]) redis.call('RPUSH', KEYS[3], ARGV[1]) "
              "return redis.call('HINCRBY', 'dice', math.random(6), 1)")

    def __init__(self):
        self.library = importlib.import_module("redis")
        self.broken = (self.library.ConnectionError, self.library.TimeoutError, OSError)

    def connect(self, port):
        connection = self.library.Redis(
            host="127.0.0.1", port=port, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS,
            single_connection_client=True, decode_responses=True)
        connection.ping()
        return connection

    def prepare(self, connection):
        connection.flushall()
        connection.mset({f"account:{n}": BALANCE for n in range(ACCOUNTS)})

    def transfer(self, connection, client, name, source, target):
        keys = [f"account:{source}", f"account:{target}", "journal"]
        line = f"{client} {name} {source} {target}"
        if name % 2:
            return bool(connection.eval(self.SCRIPT, len(keys), *keys, line))
        with connection.pipeline(transaction=True) as pipe:
            pipe.decr(keys[0]).incr(keys[1]).rpush(keys[2], line)
            return len(pipe.execute()) == len(keys)

    def read(self, connection):
        journal = [tuple(map(int, line.split())) for line in connection.lrange("journal", 0, -1)]
        balances = connection.mget([f"account:{n}" for n in range(ACCOUNTS)])
        return journal, dict(enumerate(map(int, balances)))


DRIVERS = {"pymysql": Pymysql, "psycopg": Psycopg, "redis": Redis}


def eventually(driver, port, work):
    """Does `work` on a connection, again with a new one whenever one breaks."""
    end = time.monotonic() + ANSWER_SECONDS
    while True:
        try:
            connection = driver.connect(port)
            try:
                return work(connection)
            finally:
                connection.close()
        except driver.broken:
            if time.monotonic() > end:
                raise
            time.sleep(RECONNECT_PAUSE)


class Client(threading.Thread):
    """One client; `acknowledged` and `unknown` hold names."""

    def __init__(self, driver, port, number, shared):
        super().__init__(daemon=True)
        self.driver, self.port, self.number, self.shared = driver, port, number, shared
        self.dice = random.Random(number)
        self.acknowledged, self.unknown = [], []

    def run(self):
        connection, name = None, 0
        while not self.shared.stop.is_set():
            if connection is None:
                try:
                    connection = self.driver.connect(self.port)
                except self.driver.broken:
                    time.sleep(RECONNECT_PAUSE)
                continue
            name += 1
            try:
                if self.transfer(connection, name):
                    self.acknowledged.append(name)
            except self.driver.broken:
                self.unknown.append(name)
                connection.close()
                connection = None
            if self.shared.rest.is_set():
                self.shared.stop.wait(REST_PAUSE)

    def transfer(self, connection, name):
        source, target = self.dice.sample(range(ACCOUNTS), 2)
        return self.driver.transfer(connection, self.number, name, source, target)


class Shared:
    """What all clients look at."""

    def __init__(self):
        self.stop, self.rest = threading.Event(), threading.Event()


def compare(driver, connection, clients):
    journal, balances = driver.read(connection)
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
    driver, port, count = DRIVERS[sys.argv[1]](), int(sys.argv[2]), int(sys.argv[3])
    eventually(driver, port, driver.prepare)
    shared = Shared()
    clients = [Client(driver, port, number, shared) for number in range(count)]
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
        print(eventually(driver, port, lambda connection: compare(driver, connection, clients)), flush=True)
        break


main()
