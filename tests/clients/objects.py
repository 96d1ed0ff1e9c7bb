#!/usr/bin/env python3
"""A client of MariaDB that asks small objects: registers, counters, lists and banks.

Usage: objects.py ACCOUNTS BALANCE CONNECT_SECONDS ANSWER_SECONDS, with requests on standard input, each answered by one line:
`connect HOST PORT`, at first and after a loss, by `connected`; the others, which name an object by its number, by `done`, `value N` (or `value` alone for none),
`decided 0` or `decided 1`, `number N`, `values N,...`, `balances N,...`; `not REASON` if it was surely rolled back, and `lost REASON` if nobody
knows whether it was done.
"""

import sys

import pymysql

# A deadlock, a wait for a lock that was too long: the whole transaction was rolled back, or is by what follows.
ROLLED_BACK = (1213, 1205)


class Objects:
    def __init__(self, host, port, accounts, balance, connect, answer):
        self.accounts, self.balance = accounts, balance
        self.connection = pymysql.connect(
            host=host, port=int(port), user="root", database="test", read_timeout=answer, write_timeout=answer,
            connect_timeout=connect, autocommit=True)
        self.cursor = self.connection.cursor()

    def value(self, statement, *arguments):
        self.cursor.execute(statement, arguments)
        row = self.cursor.fetchone()
        return row[0] if row else None

    def write(self, key, value):
        self.cursor.execute("REPLACE INTO registers VALUES (%s, %s)", (key, value))
        return "done"

    def swap(self, key, value):
        self.connection.begin()
        old = self.value("SELECT value FROM registers WHERE id = %s FOR UPDATE", key)
        self.cursor.execute("REPLACE INTO registers VALUES (%s, %s)", (key, value))
        self.connection.commit()
        return "value " + ("" if old is None else str(old))

    def exchange(self, key, old, new):
        changed = self.cursor.execute("UPDATE registers SET value = %s WHERE id = %s AND value = %s", (new, key, old))
        return f"decided {changed}"

    def read(self, key):
        value = self.value("SELECT value FROM registers WHERE id = %s", key)
        return "value " + ("" if value is None else str(value))

    def add(self, key, amount):
        self.connection.begin()
        self.cursor.execute("INSERT INTO counters VALUES (%s, %s) ON DUPLICATE KEY UPDATE value = value + %s",
                            (key, amount, amount))
        total = self.value("SELECT value FROM counters WHERE id = %s", key)
        self.connection.commit()
        return f"number {total}"

    def count(self, key):
        return f"number {self.value('SELECT value FROM counters WHERE id = %s', key) or 0}"

    def append(self, key, value):
        self.connection.begin()
        self.cursor.execute("INSERT INTO lists VALUES (%s, %s) ON DUPLICATE KEY UPDATE value = CONCAT(value, ',', %s)",
                            (key, value, value))
        values = self.value("SELECT value FROM lists WHERE id = %s", key)
        self.connection.commit()
        return f"number {len(values.split(','))}"

    def list(self, key):
        return f"values {self.value('SELECT value FROM lists WHERE id = %s', key) or ''}"

    def balances(self, key, lock):
        self.cursor.execute("SELECT account, value FROM accounts WHERE id = %s" + lock, (key,))
        balances = [self.balance] * self.accounts
        for account, value in self.cursor.fetchall():
            balances[account] = value
        return balances

    def transfer(self, key, source, target, amount):
        self.connection.begin()
        balances = self.balances(key, " FOR UPDATE")
        decided = balances[source] >= amount
        if decided:
            balances[source] -= amount
            balances[target] += amount
            self.cursor.executemany("REPLACE INTO accounts VALUES (%s, %s, %s)",
                                    [(key, account, balances[account]) for account in (source, target)])
        self.connection.commit()
        return f"decided {int(decided)}"

    def audit(self, key):
        return "balances " + ",".join(map(str, self.balances(key, "")))


def answer(objects, line):
    name, *numbers = line.split()
    try:
        return getattr(objects, name)(*map(int, numbers))
    except pymysql.err.OperationalError as error:
        if error.args[0] not in ROLLED_BACK:
            return f"lost {error}"
        objects.connection.rollback()
        return f"not {error}"
    except (pymysql.err.InterfaceError, OSError) as error:
        return f"lost {error}"


def main():
    settings = list(map(int, sys.argv[1:]))
    objects = None
    for line in sys.stdin:
        try:
            if line.startswith("connect "):
                objects = Objects(*line.split()[1:], *settings)
                text = "connected"
            else:
                text = answer(objects, line)
        except (pymysql.err.OperationalError, OSError) as error:
            text = f"lost {error}"
        print(text.replace("\n", " "), flush=True)


main()
