"""moto's S3 server as a process of its own: real boto3, real HTTP, on loopback.

python -m tests.s3.server        # prints its port
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def moto_server() -> Iterator[str]:
    """The endpoint of a fresh S3 server that ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.s3.server"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port.isdigit(), "moto's server did not start; is moto[s3] with flask and flask-cors installed?"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def main() -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Handler(MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open, as S3's do

        def log(self, *_arguments: object) -> None:
            return None

    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)  # type: ignore[arg-type]
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
