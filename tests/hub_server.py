"""A server that speaks as much of the Hugging Face hub's protocol as a download needs."""

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse


class Hub:
    """Files of one data set at one commit, and what was asked for.

    Attributes:
      files: path → bytes.
      commit: 40 hexadecimal digits.
      fail_after: bytes of a file that are sent before the connection breaks; None: all.
      asked: method and path of each request, and the range that it asked for.
      url: of the server.
    """

    def __init__(self, repository, files, commit="a" * 40):
        self.repository, self.files, self.commit = repository, dict(files), commit
        self.fail_after, self.asked, self.url = None, [], ""

    def answer(self, path):
        """Status, headers and bytes of a path."""
        api, resolve = (
            f"/api/datasets/{self.repository}",
            f"/datasets/{self.repository}",
        )
        if path in (api, f"{api}/revision/main", f"{api}/revision/{self.commit}"):
            names = [{"rfilename": name} for name in self.files]
            about = {"id": self.repository, "sha": self.commit, "siblings": names}
            return 200, {}, json.dumps(about).encode()
        if path == f"{api}/tree/{self.commit}":
            return 200, {}, json.dumps(list(map(self._entry, self.files))).encode()
        name = path.removeprefix(f"{resolve}/resolve/{self.commit}/")
        if name in self.files:
            data = self.files[name]
            headers = {"ETag": f'"{_digest(data)}"', "X-Repo-Commit": self.commit}
            return 200, headers | {"Accept-Ranges": "bytes"}, data
        return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"

    def _entry(self, name):
        data = self.files[name]
        return {
            **{"type": "file", "path": name, "size": len(data)},
            **{"oid": _digest(data)},
        }


def _digest(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def serve(hub):
    """Serves a hub at `hub.url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            asked = self.headers.get("Range", "")
            hub.asked.append((self.command, path, asked))
            status, headers, data = hub.answer(path)
            if asked and status == 200:
                start = int(asked.removeprefix("bytes=").partition("-")[0])
                status, whole = 206, len(data)
                data = data[start:]
                headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                if hub.fail_after is not None and "/resolve/" in path:
                    data, self.close_connection = data[: hub.fail_after], True
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
