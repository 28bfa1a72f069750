#!/usr/bin/env python3
"""The broker as pages in Chromium see it: one from an origin the broker lists, one from another.

    browser.py WEIR [CHROMIUM]

Serves browser.html from two ports, starts a broker that lists the first one's origin, opens the
page from both in headless Chromium, and judges what the pages report. Needs Python alone.
"""

import http.server
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request

WAIT = 120  # seconds for all that a page does


def serve_page(results):
    """A server for the page on a port of its own; what the page reports goes to the queue."""
    page = (pathlib.Path(__file__).parent / "browser.html").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path.split("?")[0] == "/"
            self.send_response(200 if found else 404)
            self.send_header("content-type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page if found else b"")

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            self.send_response(204)
            self.end_headers()
            results.put(json.loads(body))

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def start_broker(weir, directory, origin):
    environment = {**os.environ, "WEIR__SERVER__ALLOWED_ORIGINS": json.dumps([origin])}
    log = open(directory / "broker.log", "wb")
    broker = subprocess.Popen([weir, "serve", "--listen", "127.0.0.1:0", "--data", directory / "data"],
                              stdout=subprocess.PIPE, stderr=log, env=environment, text=True)
    line = broker.stdout.readline().strip()
    if not line.startswith("weir listening on "):
        broker.kill()
        sys.exit(f"the broker does not start with {origin!r} allowed: {line!r} {(directory / 'broker.log').read_text()[-2000:]}")
    return broker, line.removeprefix("weir listening on ")


def visit(chromium, profile, address, results):
    """What the page at the address reports."""
    browser = subprocess.Popen(
        [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         f"--user-data-dir={profile}", address],
        stdout=subprocess.DEVNULL, stderr=open(f"{profile}.log", "wb"), start_new_session=True)
    try:
        return results.get(timeout=WAIT)
    except queue.Empty:
        log = pathlib.Path(f"{profile}.log").read_text(errors="replace")
        sys.exit(f"the page at {address} reported nothing within {WAIT} s; Chromium said:\n{log[-3000:]}")
    finally:
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()


def main():
    weir = sys.argv[1]
    chromium = sys.argv[2] if len(sys.argv) > 2 else shutil.which("chromium")
    failed = passed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        directory = pathlib.Path(directory)
        results = queue.Queue()
        listed, foreign = serve_page(results), serve_page(results)
        broker, address = start_broker(weir, directory, listed)
        try:
            for origin, name in (listed, "listed"), (foreign, "foreign"):
                for result in visit(chromium, directory / name, f"{origin}/?broker={address}&as={name}", results):
                    passed += result["ok"]
                    if not result["ok"]:
                        failed += 1
                        print(f"FAILED: from a {name} origin: {result['what']}:\n    wanted: {result['wanted']}\n    got:    {result['got']}")
            # What a foreign page sends blindly must not come to anything.
            try:
                urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{address}/v1/topics/browser.foreign")
                failed += 1
                print("FAILED: from a foreign origin: its blind POST made a topic")
            except urllib.error.HTTPError as error:
                passed += error.code == 404
                if error.code != 404:
                    failed += 1
                    print(f"FAILED: from a foreign origin: asking for the topic it may not make answers {error.code}")
        finally:
            broker.terminate()
            status = broker.wait(30)
        if status != 0:
            failed += 1
            print(f"FAILED: the broker ended with {status}")
    print(f"Chromium: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
