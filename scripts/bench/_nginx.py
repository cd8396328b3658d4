"""nginx over loopback, serving a folder to a rival that reads urls."""

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CONFIG = """
daemon off; pid {run}/pid; error_log {run}/error.log; worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; types {{ image/jpeg jpg; }}
    client_body_temp_path {run}/body; proxy_temp_path {run}/proxy; fastcgi_temp_path {run}/fastcgi;
    uwsgi_temp_path {run}/uwsgi; scgi_temp_path {run}/scgi;
    server {{ listen 127.0.0.1:{port} backlog=1024; root {folder}; }}
}}
"""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The url below which the files of `folder` are served; prints how many a single client gets in a second."""
    run = folder / "nginx"
    run.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (run / "nginx.conf").write_text(CONFIG.format(run=run, folder=folder, port=port))
    for path in (folder.parent, folder):  # its worker is another user where it was started by root
        path.chmod(path.stat().st_mode | 0o011)
    with subprocess.Popen(["nginx", "-c", str(run / "nginx.conf")], stderr=subprocess.DEVNULL) as server:
        try:
            _show_rate(port, folder)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _show_rate(port: int, folder: Path) -> None:
    """One client, a connection a file, as img2dataset asks."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))[:2000]
    _wait(port)
    began, size = time.perf_counter(), 0
    for file in files:
        client = http.client.HTTPConnection("127.0.0.1", port)
        client.request("GET", f"/{file}", headers={"Connection": "close"})
        answer = client.getresponse()
        if answer.status != 200:
            sys.exit(f"nginx: {answer.status} for {file}")
        size += len(answer.read())
        client.close()
    seconds = time.perf_counter() - began
    print(f"nginx gives one client {len(files) / seconds:.0f} photos/s, {size / 1e6 / seconds:.0f} MB/s")


def _wait(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return
    sys.exit("nginx does not answer")
