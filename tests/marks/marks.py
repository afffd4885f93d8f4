"""What the tests of markers have a program do: `marks.py SCENARIO`.

Speaks the protocol by hand. Connects to ports of the loopback, each of which stands for one moment;
nobody listens there, and the attempt is recorded all the same. What goes wrong ends it with 1.
"""

import array
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

PLACE = os.environ.get("EGRESS_TRACER_SOCKET", "")
THIS = os.path.abspath(__file__)
tid = threading.get_native_id


class Marks:
    def __init__(self, place=PLACE):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        self.socket.connect(place)
        self.lock = threading.Lock()

    def raw(self, message):
        with self.lock:
            self.socket.send(message)
            return json.loads(self.socket.recv(4096))

    def ask(self, op, **more):
        return self.raw(json.dumps({"op": op, **more}).encode())

    def say(self, op, **more):
        reply = self.ask(op, **more)
        assert reply["ok"], (op, more, reply)

    def refused(self, code, op, **more):
        reply = self.ask(op, **more)
        assert not reply["ok"] and reply["code"] == code and reply["error"], (op, reply)

    def begin(self, tool, call, **more):
        self.say("begin", tool=tool, call=call, tid=tid(), **more)

    def end(self, call):
        self.say("end", call=call)


def go(port, address="127.0.0.1"):
    connection = socket.socket()
    connection.settimeout(5)
    connection.connect_ex((address, port))
    connection.close()


def program(*arguments):
    return [sys.executable, THIS, *map(str, arguments)]


def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def in_fork(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def connect(port, after="0"):
    """As another program."""
    time.sleep(float(after))
    go(int(port))


def nested():
    marks = Marks()
    go(1)
    marks.begin("Outer", "o-1")
    go(2)
    marks.begin("Inner", "i-1", kind="llm")
    go(3)
    marks.end("i-1")
    go(4)
    marks.begin("Inner", "i-2")
    marks.end("o-1")
    go(5)
    marks.end("i-2")
    go(6)
    marks.refused("unknown-call", "end", call="i-2")
    # Twice to one place: each call's is a flow of its own.
    for call in ("x", "y"):
        marks.begin("Twice", call)
        go(7)
        go(7)
        marks.end(call)


def threads():
    marks = Marks()
    ready = threading.Barrier(8)

    def work(number):
        marks.begin(f"Tool{number}", f"c-{number}")
        ready.wait()
        for _ in range(20):
            go(100 + number)
        ready.wait()
        marks.end(f"c-{number}")

    all_of_them = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in all_of_them:
        thread.start()
    for thread in all_of_them:
        thread.join()


def inherited():
    marks = Marks()
    marks.begin("A", "a")
    in_fork(lambda: go(1))
    in_thread(lambda: go(2))
    subprocess.run(program("connect", 3), check=True)
    marks.begin("B", "b", scope="task")
    in_fork(lambda: go(4))
    in_thread(lambda: go(5))
    # A program started by a worker may be anybody's.
    in_thread(lambda: subprocess.run(program("connect", 6), check=True))
    # One by the thread itself is not.
    subprocess.run(program("connect", 7), check=True)
    late = subprocess.Popen(program("connect", 8, 2))
    mixed = subprocess.Popen(program("connect", 9, 4))
    marks.end("b")
    marks.end("a")
    late.wait()
    marks.begin("C", "c")
    mixed.wait()
    marks.end("c")
    in_thread(lambda: go(10))


def tasks():
    marks = Marks()
    marks.begin("A", "a", scope="task")
    go(1)
    marks.begin("B", "b", scope="task")
    go(2)
    marks.say("use", call="a", tid=tid(), caller=["posthog", "requests"])
    go(3)
    marks.say("use", call="b", tid=tid())
    go(4)
    marks.say("use", call=None, tid=tid())
    go(5)
    marks.say("use", call="b", tid=tid())
    marks.end("b")
    # What was said of it is over with it.
    go(6)
    marks.refused("unknown-call", "use", call="b", tid=tid())
    # A worker works for a call that was begun elsewhere.
    in_thread(lambda: (marks.say("use", call="a", tid=tid()), go(7)))
    marks.end("a")
    go(8)


def taken_back():
    marks = Marks()
    marks.begin("A", "a")
    marks.begin("B", "b", scope="task")

    def worker():
        go(1)
        marks.say("use", call="b", tid=tid())
        go(2)
        marks.say("use", inherit=True, tid=tid())
        go(3)
        marks.say("use", call=None, tid=tid())
        go(4)
        # What a call says of itself counts before what it was made in.
        marks.begin("C", "c")
        go(5)
        marks.end("c")
        marks.say("use", inherit=True, tid=tid())
        go(6)

    in_thread(worker)


def main_thread():
    marks = Marks()
    in_thread(lambda: (marks.say("begin", tool="Main", call="m"), go(2)))
    go(1)
    in_thread(lambda: marks.end("m"))
    go(3)


def aged():
    marks = Marks()
    marks.begin("Old", "old", scope="task")
    time.sleep(3)
    marks.begin("New", "new", scope="task")
    go(1)
    marks.refused("unknown-call", "end", call="old")


def shared():
    marks = Marks()
    marks.begin("A", "a")
    marks.begin("B", "b", scope="task")
    subprocess.run(program("worker"), check=True)


def worker():
    go(1)
    Marks().say("shared")
    go(2)


def dead():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        marks = Marks()
        marks.begin("Dead", "d")
        parent = os.getpid()
        if os.fork() == 0:
            # Holds the connection open.
            while os.getppid() == parent:
                time.sleep(0.05)
            time.sleep(1.5)
            go(1)
            os._exit(0)
        os.write(writer, b"x")
        signal.pause()
    os.read(reader, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(4)
    go(2)


def forgotten():
    marks = Marks()
    in_thread(lambda: (marks.begin("Forgotten", "f"), go(1)))
    time.sleep(3)
    marks.begin("Other", "o", scope="task")
    # Threads inherit what is open, and that is one call alone.
    in_thread(lambda: go(2))
    marks.end("o")
    marks.begin("Again", "f")
    go(3)


def others():
    marks = Marks()
    marks.begin("Mine", "m")

    def child():
        marks.refused("not-yours", "end", call="m")
        own = Marks()
        own.refused("unknown-call", "end", call="m")
        own.refused("no-thread", "begin", tool="T", call="t", tid=os.getppid())
        own.begin("Childs", "c")
        go(2)

    in_fork(child)
    for elsewhere in (1, os.getppid(), 4_000_000_000):
        marks.refused("no-thread", "begin", tool="T", call="t", tid=elsewhere)
    marks.refused("duplicate-call", "begin", tool="T", call="m", tid=tid())
    go(1)


def contained():
    """In a pid namespace of its own."""
    assert os.getpid() < 10, os.getpid()
    marks = Marks()
    marks.begin("Contained", "c")
    go(1)
    in_thread(lambda: (marks.begin("Thread", "t"), go(2)))
    # The number of a thread that is there, in the namespace around.
    outside = int(os.environ["EGRESS_TRACER_TEST_PID"])
    marks.refused("no-thread", "begin", tool="T", call="x", tid=outside)


def many(count):
    marks = Marks()
    count = int(count)
    for number in range(count):
        marks.begin("Deep", f"c-{number}")
    go(1)
    for number in reversed(range(count)):
        marks.end(f"c-{number}")
    go(2)


def full():
    marks = Marks()
    for number in range(20):
        marks.begin("Deep", f"c-{number}")
    for number in range(30):
        marks.refused("limit", "begin", tool="Deep", call=f"d-{number}", tid=tid())
    go(1)


def garbage():
    marks = Marks()
    marks.begin("Good", "g")
    noise = os.urandom(4096)
    wrong = [noise[:size] for size in (1, 2, 100, 4096)]
    wrong += [b"{}", b"[" * 4096, b'{"op":"begin"}', b"null", b'"begin"', b'{"op":7}']
    wrong += [b"x" * 4097, b"x" * 60_000, b'{"op":"end","call":"' + b"x" * 129 + b'"}']
    for message in wrong * 20:
        reply = marks.raw(message)
        assert not reply["ok"] and reply["code"] == "malformed", (message[:40], reply)
    # Descriptors that nobody asked for.
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))]
    marks.socket.sendmsg([b"{}"], rights)
    assert not json.loads(marks.socket.recv(4096))["ok"]
    # One that never reads, and some that come and go.
    deaf = Marks()
    deaf.socket.setblocking(False)
    sent = 0
    try:
        for sent in range(100_000):
            deaf.socket.send(b'{"op":"use","call":"none"}')
    except BlockingIOError:
        pass
    assert sent > 0
    for _ in range(200):
        Marks().socket.send(b"\0")
    begun = time.monotonic()
    marks.begin("Better", "b")
    assert time.monotonic() - begun < 20
    go(1)
    # What it has not read is still there for it.
    deaf.socket.setblocking(True)
    assert json.loads(deaf.socket.recv(4096))["code"] == "unknown-call"


def crowd():
    marks = Marks()
    marks.begin("Crowd", "c")
    more = [Marks() for _ in range(9)]
    for number, one in enumerate(more):
        # Connected by the kernel, and closed or heard.
        try:
            assert one.ask("hello")["ok"] and number < 3, number
        except (BrokenPipeError, ConnectionResetError, json.JSONDecodeError):
            assert number >= 3, number
    go(1)


def hello():
    marks = Marks()
    marks.say("hello", v=1, client="test/1", tools=["Used", "Never"], models=["gpt"])
    marks.say("hello", tools=["Used", "Later"], retrievers=["faiss"])
    marks.refused("version", "hello", v=2)
    for number in range(10):
        marks.say("hello", tools=[f"t{number}-{each}" for each in range(100)])
    marks.refused("limit", "hello", tools=[f"x{each}" for each in range(100)])
    marks.begin("Used", "u")
    go(1)


def hostile(port):
    listener = socket.create_server(("198.51.100.7", int(port)))
    marks = Marks()
    names = ["a\nb", "\x1b[31mred\x1b[0m", "\"quoted\"'", "x]]>--><script>", "\u202eevil", "$(id)`id`"]
    marks.say("hello", tools=names)
    for number, name in enumerate(names):
        marks.begin(name, f"c\n{number}")
        go(int(port), "198.51.100.7")
        marks.end(f"c\n{number}")
    listener.close()


def chat():
    """The thread's own sentence: one name, inside of its tool, and outside."""
    from urllib.request import urlopen

    marks = Marks()
    marks.say("hello", tools=["OpenAIChat", "WebSearch"])
    for tool in sys.argv[2:]:
        if tool == "-":
            urlopen("http://api.openai.com/", timeout=10).read()
            continue
        marks.begin(tool, tool)
        urlopen("http://api.openai.com/", timeout=10).read()
        marks.end(tool)


def fetch(url):
    """Ends with 9 if that is refused."""
    from urllib.request import urlopen

    try:
        urlopen(url, timeout=5).read()
    except OSError:
        sys.exit(9)


class Late(Marks):
    """A client that does not wait for long."""

    def __init__(self):
        super().__init__()
        self.socket.settimeout(0.3)

    def misses(self, op, **more):
        try:
            self.ask(op, **more)
        except socket.timeout:
            return self.socket.close()
        raise AssertionError(f"the daemon has answered {op}")


def state_of(pid, thread):
    with open(f"/proc/{pid}/task/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def pause(pid, work):
    """Does something while the daemon does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        # Each of its threads stops in its own time.
        while not all(state_of(pid, thread) == "T" for thread in os.listdir(f"/proc/{pid}/task")):
            time.sleep(0.005)
        work()
    finally:
        os.kill(pid, signal.SIGCONT)


def stalled():
    daemon = os.getppid()
    marks = Late()
    # An ordinary one, of another process.
    reader, writer = os.pipe()
    other = os.fork()
    if other == 0:
        os.close(writer)
        own = Marks()
        own.begin("Other", "other")
        os.read(reader, 1)
        go(3)
        subprocess.run(program("connect", 4), check=True)
        os._exit(0)
    marks.begin("Outer", "outer")
    go(1)
    # Longer than the daemon looks away: what was before is not in doubt.
    time.sleep(2.5)

    def meanwhile():
        marks.misses("begin", tool="Inner", call="inner", tid=tid())
        go(2)
        os.write(writer, b"x")
        assert os.waitpid(other, 0)[1] == 0

    pause(daemon, meanwhile)
    time.sleep(0.5)
    go(5)
    again = Marks()
    again.begin("Outer", "outer")
    go(6)
    again.say("settled")
    go(7)
    time.sleep(2.5)
    again.say("unsaid")
    go(8)


def ended():
    """Its end is not heard."""
    daemon = os.getppid()
    marks = Late()
    marks.begin("Over", "over")
    pause(daemon, lambda: (marks.misses("end", call="over"), go(1)))
    time.sleep(0.5)


def bystander():
    """A pool's worker serves a call that was not heard."""
    daemon = os.getppid()
    marks = Late()
    reader, writer = os.pipe()
    marks.begin("Known", "known")
    worker = os.fork()
    if worker == 0:
        os.close(writer)
        os.read(reader, 1)
        go(1)
        os._exit(0)

    def meanwhile():
        marks.misses("begin", tool="Unknown", call="unknown", tid=tid())
        os.write(writer, b"x")
        assert os.waitpid(worker, 0)[1] == 0

    pause(daemon, meanwhile)
    time.sleep(0.5)


def spans(count):
    """More than are taken out of one request."""
    from urllib.request import Request, urlopen

    attributes = [
        {"key": key, "value": {"stringValue": value}}
        for key, value in (("gen_ai.operation.name", "execute_tool"), ("gen_ai.tool.name", "x"))
    ]
    times = {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    one = {"name": "x", "attributes": attributes, **times}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [one] * int(count)}]}]}
    headers = {"Content-Type": "application/json"}
    place = "http://127.0.0.1:4318/v1/traces"
    urlopen(Request(place, json.dumps(body).encode(), headers), timeout=30).read()
    go(1)


def client():
    """The module in clients/python, and a daemon that does not answer it."""
    import egress_tracer

    daemon = os.getppid()

    def meanwhile():
        with egress_tracer.tool("Inner", call="inner"):
            go(2)

    with egress_tracer.tool("Outer", call="outer"):
        go(1)
        time.sleep(2.5)
        pause(daemon, meanwhile)
        # Longer than it leaves the daemon alone.
        time.sleep(1.5)
        with egress_tracer.tool("Later", call="later"):
            go(3)
        go(4)


def follow():
    """Does what comes on standard input: lines of Python's own words."""
    marks = None
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "connect":
            marks = Marks()
        elif word == "begin":
            marks.begin(*rest)
        elif word == "go":
            go(int(rest[0]))
        print("done", flush=True)


os.environ.setdefault("EGRESS_TRACER_TEST_PID", str(os.getpid()))
globals()[sys.argv[1]](*(sys.argv[2:] if sys.argv[1] != "chat" else []))
