"""A worker that does nothing but tell its health and environment: starts in a tenth of a second.

Behaviour by environment: FAKE_EXIT=N ends at once with that status after one line of output;
FAKE_DEAF=1 ignores SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Health(BaseHTTPRequestHandler):
    """/readyz says yes; /status is the environment the supervisor gave; /metrics one figure."""

    def do_GET(self) -> None:
        """Answer any path."""
        document = {key: value for key, value in os.environ.items() if "SYMPHONY_" in key}
        body = json.dumps({"ready": True, "role": sys.argv[-1], "environment": document}).encode()
        kind = "application/json"
        if self.path == "/metrics":
            body, kind = b"fake_worker_figure 1\n", "text/plain; version=0.0.4"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing about requests."""


if __name__ == "__main__":
    print("fake worker", sys.argv[-1], os.environ["SYMPHONY_WORKER_ID"], flush=True)
    if "FAKE_EXIT" in os.environ:
        sys.exit(int(os.environ["FAKE_EXIT"]))
    if "FAKE_DEAF" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    port = int(os.environ["SYMPHONY_HEALTH_PORT"])
    HTTPServer((os.environ["SYMPHONY_HEALTH_HOST"], port), Health).serve_forever()
