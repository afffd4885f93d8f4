"""What the module does by itself: with a daemon, without one, and with one that misbehaves.

Which flow belongs to which call is tested with the real tracer, not here.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from unittest import mock

import egress_tracer
from egress_tracer import _audit, _calls, _daemon, pools
from server import Server


class Case(unittest.TestCase):
    """Each test has a client that knows nothing, and no daemon but its own."""

    def setUp(self) -> None:
        self.path = os.path.join(tempfile.mkdtemp(), "mark.sock")
        os.environ["EGRESS_TRACER_SOCKET"] = self.path
        _calls.daemon.forget()
        _calls._open.clear()
        _calls._thread.used = None
        _calls._is_shared = False
        for names in _calls._registered.values():
            names.clear()

    def tearDown(self) -> None:
        self.assertEqual(dict(_calls._open), {})
        self.assertIsNone(_calls.current())

    def serve(self, **options: object) -> Server:
        server = Server(path=self.path, **options)
        server.__enter__()
        self.addCleanup(server.__exit__)
        return server


def works(function: object = None) -> None:
    """Uses everything once."""
    with egress_tracer.tool("outer"):
        with egress_tracer.llm("inner", call="x"):
            pass
    egress_tracer.register(tools=["a"])


class Marking(Case):
    def test_a_call_begins_and_ends(self) -> None:
        server = self.serve()
        with egress_tracer.tool("search", call="c-1"):
            pass
        begin, end = server.of("begin") + server.of("end")
        self.assertEqual(begin["tool"], "search")
        self.assertEqual(begin["call"], "c-1")
        self.assertEqual((begin["kind"], begin["scope"]), ("tool", "thread"))
        self.assertEqual(begin["tid"], threading.get_native_id())
        self.assertEqual(end, {"op": "end", "call": "c-1"})

    def test_nested_calls_know_what_they_are_part_of(self) -> None:
        server = self.serve()
        with egress_tracer.tool("outer", call="o"):
            with egress_tracer.llm("model", call="i"):
                self.assertEqual(_calls.current().id, "i")
            self.assertEqual(_calls.current().id, "o")
        self.assertEqual([m.get("parent") for m in server.of("begin")], [None, "o"])
        self.assertEqual([m["call"] for m in server.of("end")], ["i", "o"])

    def test_a_call_ends_when_its_code_fails(self) -> None:
        server = self.serve()
        with self.assertRaises(KeyError), egress_tracer.tool("search"):
            raise KeyError
        self.assertEqual(len(server.of("end")), 1)

    def test_functions_of_both_kinds_can_be_decorated(self) -> None:
        server = self.serve()

        @egress_tracer.tool("plain")
        def plain(number: int) -> int:
            """Said."""
            return number + 1

        @egress_tracer.tool("waiting")
        async def waiting(number: int) -> int:
            return plain(number)

        self.assertEqual((plain.__name__, plain.__doc__), ("plain", "Said."))
        self.assertEqual(asyncio.run(waiting(1)), 2)
        scopes = [(m["tool"], m["scope"]) for m in server.of("begin")]
        # Nothing else can run in the thread while a plain function does.
        self.assertEqual(scopes, [("waiting", "task"), ("plain", "thread")])

    def test_a_generator_is_refused_where_it_is_written(self) -> None:
        for statement in ("yield", "return (yield)"):
            namespace: dict = {}
            exec(f"def steps():\n    {statement}", namespace)
            with self.assertRaises(TypeError):
                egress_tracer.tool("steps")(namespace["steps"])

    def test_one_mark_can_be_entered_again_and_by_several_threads(self) -> None:
        server = self.serve()
        mark = egress_tracer.tool("search")

        def twice() -> None:
            with mark, mark:
                time.sleep(0.01)

        threads = [threading.Thread(target=twice) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        begun = [m["call"] for m in server.of("begin")]
        self.assertEqual(len(set(begun)), 16)
        self.assertEqual(sorted(m["call"] for m in server.of("end")), sorted(begun))

    def test_an_id_given_out_twice_marks_both_calls(self) -> None:
        server = self.serve()
        with egress_tracer.tool("a", call="1"), egress_tracer.tool("b", call="1"):
            pass
        self.assertEqual(len({m["call"] for m in server.of("begin")}), 2)

    def test_names_are_cut_at_a_character(self) -> None:
        server = self.serve()
        with egress_tracer.tool("ü" * 1000, call="\ud800" * 1000):
            pass
        (begin,) = server.of("begin")
        self.assertEqual(begin["tool"], "ü" * 64)
        self.assertLessEqual(len(begin["call"].encode()), 128)

    def test_what_is_registered_is_said_once_and_again_to_a_new_daemon(self) -> None:
        names = [f"tool-{number:04}-{'x' * 100}" for number in range(200)]
        with Server(path=self.path) as server:
            egress_tracer.register(tools=names, models=["m"])
            egress_tracer.register(tools=names[:2] + ["new"], retrievers=["r"])
            said = [name for m in server.of("hello") for name in m.get("tools", [])]
            self.assertEqual(said, names + ["new"])
        with Server(path=self.path) as server:
            for _ in range(2):
                # The first time it finds that the old one is gone.
                _calls.daemon._retry_at = 0.0
                with egress_tracer.tool("search"):
                    pass
            said = [name for m in server.of("hello") for name in m.get("tools", [])]
            self.assertEqual(said, names + ["new"])


class Tasks(Case):
    def test_tasks_have_calls_of_their_own(self) -> None:
        server = self.serve()

        async def one(name: str) -> None:
            async with egress_tracer.tool(name, call=name):
                await asyncio.sleep(0.01)
                self.assertEqual(_calls.current().id, name)

        async def both() -> None:
            await asyncio.gather(one("a"), one("b"))
            self.assertIsNone(_calls.current())

        asyncio.run(both())
        self.assertEqual({m["scope"] for m in server.of("begin")}, {"task"})
        self.assertEqual({m["call"] for m in server.of("end")}, {"a", "b"})

    def test_a_call_that_ended_elsewhere_is_nobodys(self) -> None:
        self.serve()
        call = _calls.begin("search", None, "tool", "task")
        contextvars.copy_context().run(_calls.end, call)
        self.assertIsNone(_calls.current())

    def test_a_plain_with_in_a_loop_shares_the_thread(self) -> None:
        server = self.serve()

        async def step() -> None:
            with egress_tracer.tool("search"):
                await asyncio.sleep(0)

        asyncio.run(step())
        self.assertEqual(server.of("begin")[0]["scope"], "task")


def current_id() -> object:
    call = _calls.current()
    return call and (call.tool, call.id)


class Workers(Case):
    def test_a_thread_of_a_pool_says_for_whom_it_works(self) -> None:
        server = self.serve()
        with pools.ThreadPoolExecutor(1) as pool:
            with egress_tracer.tool("a", call="1"):
                first = pool.submit(threading.get_native_id).result()
            with egress_tracer.tool("b", call="2"):
                self.assertEqual(list(pool.map(lambda _: current_id(), "x")), [("b", "2")])
            self.assertIsNone(pool.submit(current_id).result())
        uses = [m for m in server.of("use") if "call" in m]
        self.assertEqual([m["call"] for m in uses], ["1", "2"])
        self.assertEqual({m["tid"] for m in uses}, {first})

    def test_a_process_of_a_pool_begins_the_same_call(self) -> None:
        server = self.serve()
        for method in ("fork", "spawn"):
            context = multiprocessing.get_context(method)
            with pools.ProcessPoolExecutor(1, mp_context=context) as pool:
                with egress_tracer.tool("a", call=method):
                    self.assertEqual(pool.submit(current_id).result(), ("a", method))
        begun = [(m["call"], m["tid"]) for m in server.of("begin")]
        self.assertEqual([call for call, _ in begun], ["fork", "fork", "spawn", "spawn"])
        self.assertEqual(len({tid for _, tid in begun}), 3)
        self.assertEqual(len(server.of("shared")), 2)
        self.assertEqual(server.connections, 3)

    def test_a_forked_child_is_nobodys_and_leaves_the_parents_connection_alone(self) -> None:
        server = self.serve()
        with egress_tracer.tool("a", call="1"):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    with egress_tracer.tool("b", call="2"):
                        code = 0 if _calls.current().parent is None else 2
                finally:
                    os._exit(code)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual([m["call"] for m in server.of("end")], ["2", "1"])
        self.assertEqual(server.connections, 2)

    def test_a_fork_while_another_thread_speaks_does_not_hang(self) -> None:
        self.serve()
        stop = threading.Event()

        def speak() -> None:
            while not stop.is_set():
                works()

        thread = threading.Thread(target=speak)
        thread.start()
        try:
            for _ in range(20):
                child = os.fork()
                if child == 0:
                    works()
                    os._exit(0)
                self.assertEqual(os.waitpid(child, 0)[1], 0)
        finally:
            stop.set()
            thread.join()

    def test_outside_of_a_call_nothing_is_wrapped(self) -> None:
        self.serve()
        self.assertIs(egress_tracer.carry(print), print)


class Trouble(Case):
    """A daemon that is not there, dies, lies or sleeps is none of the program's business."""

    def test_without_a_daemon_nothing_happens_and_nothing_is_tried_again_soon(self) -> None:
        works()
        with mock.patch.object(_daemon.socket, "socket", side_effect=AssertionError):
            works()
            with egress_tracer.tool("a"):
                self.assertIs(egress_tracer.carry(print), print)

    def test_a_daemon_that_comes_later_hears_of_calls_that_are_open(self) -> None:
        with egress_tracer.tool("early", call="1"):
            server = self.serve()
            _calls.daemon._retry_at = 0.0
            with egress_tracer.tool("late", call="2"):
                pass
        self.assertEqual([m["call"] for m in server.of("begin")], ["1", "2"])
        self.assertEqual([m["call"] for m in server.of("end")], ["2", "1"])

    def test_a_daemon_that_dies_in_mid_call(self) -> None:
        for dies_at in ("hello", "begin", "end"):
            _calls.daemon.forget()
            with Server(lambda m: None if m["op"] == dies_at else b'{"ok":true}', self.path):
                works()
            works()

    def test_replies_that_are_none(self) -> None:
        for reply in (b"\xff\x00", b"[]", b"null", b"{}", b'{"ok":1}', b"{" * 3000, b"x" * 8000):
            _calls.daemon.forget()
            with Server(lambda _m: reply, self.path) as server:
                works()
                self.assertEqual(len(server.said), 1, reply)
            self.assertFalse(_calls.daemon.is_connected)

    def test_refusals_are_counted_and_keep_the_connection(self) -> None:
        self.serve(answer=lambda _m: b'{"ok":false,"code":"limit","error":"too many"}')
        before = _calls.daemon.unsaid
        works()
        self.assertTrue(_calls.daemon.is_connected)
        self.assertGreater(_calls.daemon.unsaid, before)

    def test_a_daemon_that_does_not_answer_is_given_up_for_all_threads(self) -> None:
        hangs = threading.Event()
        self.addCleanup(hangs.set)
        server = self.serve(answer=lambda _m: hangs.wait(30) and None)
        threads = [threading.Thread(target=works) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        self.assertFalse(any(thread.is_alive() for thread in threads))
        self.assertEqual(len(server.said), 1)

    def test_a_daemon_that_was_given_up_is_told_when_it_knows_all_again(self) -> None:
        with Server(lambda m: None if m["op"] == "begin" else b'{"ok":true}', self.path):
            works()
        server = self.serve()
        _calls.daemon._retry_at = 0.0
        with egress_tracer.tool("open", call="1"):
            pass
        self.assertEqual([m["op"] for m in server.said], ["hello", "settled", "begin", "end"])
        _calls.daemon.forget()
        with egress_tracer.tool("open", call="2"):
            pass
        self.assertEqual([m["op"] for m in server.said[4:]], ["hello", "begin", "end"])

    def test_what_a_signals_handler_cannot_say_is_not_kept_from_the_daemon(self) -> None:
        server = self.serve()
        with egress_tracer.tool("interrupted", call="1"):
            # As in a handler that runs while its thread waits for an answer.
            _calls._thread.is_speaking = True
            try:
                with egress_tracer.tool("handler"):
                    pass
            finally:
                _calls._thread.is_speaking = False
        enough = time.monotonic() + 10
        while not server.of("unsaid") and time.monotonic() < enough:
            time.sleep(0.01)
        self.assertEqual(server.of("unsaid"), [{"op": "unsaid"}])
        self.assertFalse(_calls.daemon.is_connected)

    def test_a_thread_says_again_on_a_new_connection_for_whom_it_works(self) -> None:
        server = self.serve()
        with egress_tracer.tool("search", call="1"):
            call = _calls.current()
            _calls.use(call)
            _calls.use(call)
            _calls.daemon._leave()
            _calls.daemon._retry_at = 0.0
            _calls.is_there()
            _calls.use(call)
        self.assertEqual([m["call"] for m in server.of("use")], ["1", "1"])

    def test_a_failing_daemon_is_left_alone_for_longer_and_longer(self) -> None:
        pauses = []
        for _ in range(8):
            _calls.daemon._retry_at = 0.0
            works()
            pauses.append(_calls.daemon._pause)
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 30, 30, 30])


class Callers(Case):
    """The audit hook. It cannot be taken out of a process: it is tried in processes of its own."""

    def run_hooked(self, script: str) -> list:
        server = self.serve()
        setup = "import egress_tracer, socket\negress_tracer.name_callers()\n"
        done = subprocess.run([sys.executable, "-c", setup + script], timeout=60)
        self.assertEqual(done.returncode, 0)
        return server.of("use")

    def test_each_task_says_for_whom_it_connects(self) -> None:
        uses = self.run_hooked(
            "import asyncio\n"
            "async def one(name):\n"
            "    async with egress_tracer.tool(name, call=name):\n"
            "        for _ in range(2):\n"
            "            await asyncio.sleep(0.01)\n"
            "            socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
            "async def both():\n"
            "    await asyncio.gather(one('a'), one('b'))\n"
            "    socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
            "asyncio.run(both())\n"
        )
        self.assertEqual([m["call"] for m in uses], ["a", "b", "a", "b", None])

    def test_a_package_that_connects_is_named_and_the_program_is_not(self) -> None:
        folder = tempfile.mkdtemp()
        for name, text in (
            ("telemetry", "import transport\ndef send():\n    transport.go()\n"),
            ("transport", "import socket\ndef go():\n    socket.socket(type=2).sendto(b'', ('127.0.0.1', 9))\n"),
        ):
            with open(os.path.join(folder, f"{name}.py"), "w") as file:
                file.write(text)
        uses = self.run_hooked(
            f"import sys\nsys.path.insert(0, {folder!r})\nimport telemetry\n"
            "with egress_tracer.tool('search', call='1'):\n"
            "    telemetry.send(); telemetry.send()\n"
        )
        self.assertEqual([(m["call"], m["caller"]) for m in uses], [("1", ["transport", "telemetry"])])

    def test_a_worker_that_nobody_told_says_nothing(self) -> None:
        uses = self.run_hooked(
            "import threading\n"
            "def go(): socket.socket(type=2).connect(('127.0.0.1', 9))\n"
            "with egress_tracer.tool('search'):\n"
            "    thread = threading.Thread(target=go); thread.start(); thread.join()\n"
        )
        self.assertEqual(uses, [])

    def test_unix_sockets_are_no_egress(self) -> None:
        uses = self.run_hooked("socket.socketpair()\ntry: socket.socket(socket.AF_UNIX).connect('/x')\nexcept OSError: pass\n")
        self.assertEqual(uses, [])

    def test_names_of_packages_are_bounded(self) -> None:
        names = []

        def deep(number: int) -> object:
            if number == 0:
                return _audit.callers(sys._getframe())
            code = "def step(go, n):\n    return go(n)\n"
            namespace = {"__name__": f"package{number}{'x' * 100}.module"}
            exec(code, namespace)
            return namespace["step"](deep, number - 1)

        names = deep(30)
        self.assertEqual(len(names), _audit.MOST_PACKAGES)
        self.assertTrue(all(len(name) <= _audit.LONGEST_PACKAGE for name in names))
        self.assertTrue(names[1].startswith("package1x"), names)


if __name__ == "__main__":
    unittest.main()
