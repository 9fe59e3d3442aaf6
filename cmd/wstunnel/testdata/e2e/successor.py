"""Stands between two processes of which one takes over from the other. Behind so many tunnels it kills one of them, has the new one hang, or has the old one stop.

successor.py old|new|hang|stop COUNT BINARY ARGUMENTS...  The link to the older process is descriptor 3.
"""
import os, signal, socket, subprocess, sys, threading

TUNNEL, ADOPTED = 6, 7
victim, count, command = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
old = socket.socket(fileno=3)
new, theirs = socket.socketpair()
process = subprocess.Popen(command, env={**os.environ, "WSTUNNEL_HANDOVER": str(theirs.fileno())}, pass_fds=[theirs.fileno()])
theirs.close()
stopped = threading.Event()


def stop(*_):
    process.terminate()
    stopped.set()


signal.signal(signal.SIGTERM, stop)
adopted = 0


def exactly(link, n):
    data = b""
    while len(data) < n:
        piece = link.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def receive(link):
    head, descriptors, _, _ = socket.recv_fds(link, 12, 253)
    if not head:
        raise EOFError
    head += exactly(link, 12 - len(head))
    return head, exactly(link, int.from_bytes(head[8:], "big")), descriptors


def forward(source, target, seen):
    try:
        while True:
            head, body, descriptors = receive(source)
            n = socket.send_fds(target, [head + body], descriptors)
            target.sendall((head + body)[n:])
            for descriptor in descriptors:
                os.close(descriptor)
            seen(head[0])
    except (EOFError, OSError):
        pass


tunnels = 0


def from_old(kind):
    global tunnels
    tunnels += kind == TUNNEL
    if tunnels == count:
        if victim == "hang":
            process.send_signal(signal.SIGSTOP)
            return
        if victim == "stop":
            os.kill(os.getppid(), signal.SIGTERM)
            stopped.wait(5)  # nothing more is handed over before the old process has passed it on
            return
        if victim == "old":
            os.kill(os.getppid(), signal.SIGKILL)
            print("killed the old process behind", tunnels, flush=True)
        else:
            process.kill()
            process.wait()
            answers.join()
            print("killed the new process behind", adopted, flush=True)
        os._exit(0)


def from_new(kind):
    global adopted
    adopted += kind == ADOPTED


answers = threading.Thread(target=forward, args=(new, old, from_new))
answers.start()
forward(old, new, from_old)
os._exit(0)
