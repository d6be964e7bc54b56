"""Ways out: how code reaches the network behind a test's back. For `benchmarks/network.py`.

Each is the body of a function that a test calls, or that is called elsewhere; what goes wrong in it
is swallowed. `HOST`, `PORT` and `NAME` are where to; there, something listens.
"""

from typing import NamedTuple

CHILD = "import socket; socket.create_connection(({host!r}, {port}), 2)"


class Way(NamedTuple):
    """Code that reaches the network, where it is called, and what it needs that not all have."""

    code: str
    called: str = "in the test"
    needs: str = ""


CALLS = {
    "in the test": "def test_guilty(): reach()",
    "in a thread": """
def test_guilty():
    thread = threading.Thread(target=reach)
    thread.start()
    thread.join()
""",
    "after the test": """
done = threading.Event()
def later():
    done.wait()
    reach()
thread = threading.Thread(target=later)
def test_guilty(): thread.start()
def test_innocent_too():
    done.set()
    thread.join()
""",
    "at exit": """
import atexit
def test_guilty(): atexit.register(reach)
""",
    "at import": "reach()\ndef test_guilty(): pass",
    "in a session fixture": """
import pytest
@pytest.fixture(scope="session")
def wide(): reach()
def test_guilty(wide): pass
""",
}
"""Where a way out may be called: the one to blame is `test_guilty`, or nobody at import and in a
fixture that tests share."""

_NATIVE = """
libc = ctypes.CDLL(None)
address = struct.pack("=H", 2) + struct.pack("!H", PORT) + socket.inet_aton(HOST) + bytes(8)
libc.connect(libc.socket(2, 1, 0), address, 16)
"""
_ASYNCIO = "asyncio.run(asyncio.wait_for(asyncio.open_connection(HOST, PORT), 2))"
_CHILD = "[sys.executable, '-c', CHILD]"

WAYS = {
    "socket": Way("socket.create_connection((HOST, PORT), 2)"),
    "socket, non-blocking": Way(
        "one = socket.socket(); one.setblocking(False); one.connect_ex((HOST, PORT))\n"
        "time.sleep(0.05)"
    ),
    "raw _socket": Way("_socket.socket().connect((HOST, PORT))"),
    "UDP sendto": Way("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', (HOST, PORT))"),
    "UDP sendmsg": Way(
        "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, (HOST, PORT))"
    ),
    "UDP connect": Way(
        "one = socket.socket(type=socket.SOCK_DGRAM); one.connect((HOST, PORT)); one.send(b'x')"
    ),
    "getaddrinfo": Way("socket.getaddrinfo(NAME, 443)"),
    "gethostbyname": Way("socket.gethostbyname(NAME)"),
    "urllib": Way("urllib.request.urlopen(URL, timeout=2)"),
    "http.client": Way("http.client.HTTPConnection(HOST, PORT, timeout=2).request('GET', '/')"),
    "ftplib": Way("import ftplib; ftplib.FTP().connect(HOST, PORT, 2)"),
    "smtplib": Way("import smtplib; smtplib.SMTP(HOST, PORT, timeout=2)"),
    "xmlrpc": Way("import xmlrpc.client; xmlrpc.client.ServerProxy(URL).ping()"),
    "logging": Way(
        "import logging.handlers as h\n"
        "h.SocketHandler(HOST, PORT).emit(__import__('logging').makeLogRecord({}))"
    ),
    "multiprocessing client": Way(
        "from multiprocessing.connection import Client; Client((HOST, PORT))"
    ),
    "asyncio": Way(_ASYNCIO),
    "asyncio datagram": Way(
        "async def go():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    kind = asyncio.DatagramProtocol\n"
        "    transport, _ = await loop.create_datagram_endpoint(kind, remote_addr=(HOST, PORT))\n"
        "    transport.sendto(b'x')\n"
        "asyncio.run(go())"
    ),
    "asyncio to_thread": Way(
        "asyncio.run(asyncio.to_thread(socket.create_connection, (HOST, PORT), 2))"
    ),
    "requests": Way("import requests; requests.get(URL, timeout=2)", needs="requests"),
    "httpx": Way("import httpx; httpx.get(URL, timeout=2)", needs="httpx"),
    "httpx, async": Way(
        "import httpx\n"
        "async def go():\n"
        "    async with httpx.AsyncClient() as client:\n"
        "        await client.get(URL, timeout=2)\n"
        "asyncio.run(go())",
        needs="httpx",
    ),
    "httpx2": Way("import httpx2; httpx2.get(URL, timeout=2)", needs="httpx2"),
    "aiohttp": Way(
        "import aiohttp\n"
        "async def go():\n"
        "    async with aiohttp.ClientSession() as session:\n"
        "        await session.get(URL)\n"
        "asyncio.run(asyncio.wait_for(go(), 2))",
        needs="aiohttp",
    ),
    "anyio": Way(
        "import anyio\n"
        "async def go():\n"
        "    with anyio.move_on_after(2): await anyio.connect_tcp(HOST, PORT)\n"
        "anyio.run(go)",
        needs="anyio",
    ),
    "trio": Way(
        "import trio\n"
        "async def go():\n"
        "    with trio.move_on_after(2): await trio.open_tcp_stream(HOST, PORT)\n"
        "trio.run(go)",
        needs="trio",
    ),
    "websockets": Way(
        "import websockets.sync.client as w; w.connect(URL.replace('http', 'ws'), open_timeout=1)",
        needs="websockets",
    ),
    "uvloop": Way(f"import uvloop\nuvloop.install()\n{_ASYNCIO}", needs="uvloop"),
    "pycurl": Way(
        "import pycurl\n"
        "curl = pycurl.Curl()\n"
        "curl.setopt(curl.URL, URL)\n"
        "curl.setopt(curl.TIMEOUT, 2)\n"
        "curl.perform()",
        needs="pycurl",
    ),
    "gRPC": Way(
        "import grpc\n"
        "grpc.channel_ready_future(grpc.insecure_channel(f'{HOST}:{PORT}')).result(timeout=1)",
        needs="grpcio",
    ),
    "c-ares": Way(
        "import pycares\n"
        "channel = pycares.Channel(timeout=0.5, tries=1)\n"
        "done = threading.Event()\n"
        "channel.getaddrinfo(NAME, 80, callback=lambda *_: done.set())\n"
        "done.wait(2)",
        needs="pycares",
    ),
    "Rust client": Way("import primp; primp.Client(timeout=2).get(URL)", needs="primp"),
    "ctypes": Way(_NATIVE),
    "ctypes, in a thread": Way(_NATIVE, "in a thread"),
    "os.fork": Way(
        "child = os.fork()\n"
        "if not child:\n"
        "    try: socket.create_connection((HOST, PORT), 2)\n"
        "    finally: os._exit(0)\n"
        "os.waitpid(child, 0)"
    ),
    "multiprocessing fork": Way(
        "process = multiprocessing.get_context('fork').Process(\n"
        "    target=socket.create_connection, args=((HOST, PORT), 2))\n"
        "process.start(); process.join()"
    ),
    "multiprocessing spawn": Way(
        "process = multiprocessing.get_context('spawn').Process(\n"
        "    target=socket.create_connection, args=((HOST, PORT), 2))\n"
        "process.start(); process.join()"
    ),
    "subprocess": Way(f"subprocess.run({_CHILD}, stderr=subprocess.DEVNULL)"),
    "subprocess, empty environment": Way(
        f"subprocess.run([sys.executable, '-I', *{_CHILD}[1:]], env={{}}, "
        "stderr=subprocess.DEVNULL)"
    ),
    "subprocess curl": Way(
        "subprocess.run(['curl', '-sm', '2', URL], stdout=subprocess.DEVNULL)", needs="curl"
    ),
    "os.system": Way("os.system(f'{sys.executable} -c \"{CHILD}\" 2>/dev/null')"),
    "posix_spawn": Way(
        "os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c', CHILD], {}), 0)"
    ),
    "thread": Way("socket.create_connection((HOST, PORT), 2)", "in a thread"),
    "timer": Way(
        "timer = threading.Timer(0.01, socket.create_connection, ((HOST, PORT), 2))\n"
        "timer.start(); timer.join()"
    ),
    "executor": Way(
        "with concurrent.futures.ThreadPoolExecutor() as pool:\n"
        "    pool.submit(socket.create_connection, (HOST, PORT), 2)"
    ),
    "after the test": Way("socket.create_connection((HOST, PORT), 2)", "after the test"),
    "at exit": Way("socket.create_connection((HOST, PORT), 2)", "at exit"),
    "at import": Way("socket.create_connection((HOST, PORT), 2)", "at import"),
    "in a session fixture": Way(
        "socket.create_connection((HOST, PORT), 2)", "in a session fixture"
    ),
}
"""Every way, by name."""

HARMLESS = {
    "loopback": Way(
        "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())"
    ),
    "ldconfig": Way("import ctypes.util; ctypes.util.find_library('c')"),
    "multiprocessing manager": Way("multiprocessing.Manager().list()"),
    "a database on a unix socket": Way(
        "import redis, tempfile\n"
        "path = tempfile.mkdtemp() + '/redis.sock'\n"
        "server = subprocess.Popen(['redis-server', '--port', '0', '--unixsocket', path],\n"
        "                          stdout=subprocess.DEVNULL, cwd=os.path.dirname(path))\n"
        "with contextlib.closing(redis.Redis(unix_socket_path=path)) as database:\n"
        "    while not os.path.exists(path): time.sleep(0.01)\n"
        "    assert database.set('key', 'value') and database.get('key') == b'value'\n"
        "server.terminate()\n"
        "server.wait()",
        needs="redis-server",
    ),
    "uvloop on loopback": Way(
        "import uvloop\n"
        "async def go():\n"
        "    server = await asyncio.start_server(lambda r, w: w.close(), '127.0.0.1', 0)\n"
        "    await asyncio.open_connection(*server.sockets[0].getsockname())\n"
        "uvloop.run(go())",
        needs="uvloop",
    ),
    "pdb": Way(
        "command = [sys.executable, '-m', 'pdb', '-c', 'continue', '-c', 'quit', '-m', 'this']\n"
        "subprocess.run(command, check=True, stdout=subprocess.DEVNULL)"
    ),
    "debugpy": Way(
        "import debugpy\n"
        "address = debugpy.listen(('127.0.0.1', 0))\n"
        "socket.create_connection(address).close()",
        needs="debugpy",
    ),
}
"""What must not be taken for an attempt; an error of its own is not swallowed."""
