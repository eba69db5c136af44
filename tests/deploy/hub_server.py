"""A hub of models on this machine, as far as `huggingface_hub` talks to one: commits, large files, tokens."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

#: May write to `OWNER`; may read what is private there.
TOKEN = "hf_of_the_owner"
#: May read alone.
READER = "hf_of_a_reader"
OWNER = "me"
#: Files of more bytes are large, as on the real hub those of some suffixes are.
LARGE = 1 << 14
_POINTER = b"oid sha256:"


@dataclass
class Stored:
    """A repository: which files each commit has, and which commit each branch is at."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    messages: list[str] = field(default_factory=list)

    def commit(self, branch, files, message=""):
        content = {**self.commits[self.branches[branch]], **files}
        name = hashlib.sha1(repr((sorted(content.items()), self.branches[branch], message)).encode()).hexdigest()
        self.commits[name] = content
        self.branches[branch] = name
        self.messages.append(message)
        return name

    def find(self, revision):
        return self.branches.get(revision, revision if revision in self.commits else None)


class Hub:
    """The hub; `with Hub() as hub` serves it at `hub.url`."""

    def __init__(self):
        self.repositories: dict[str, Stored] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.failing: tuple[str, int] | None = None  # requests whose path has that in it answer with that status

    def add(self, name, files, **options):
        self.repositories[name] = stored = Stored(**options)
        stored.commit("main", files)
        return stored

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        # Large files are on another host, as of the real hub.
        self.servers = [ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        self.url, self.store = (f"http://127.0.0.1:{each.server_address[1]}" for each in self.servers)
        self.threads = [threading.Thread(target=each.serve_forever, args=(0.05,)) for each in self.servers]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        for server, thread in zip(self.servers, self.threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()


class _RefusedError(Exception):
    def __init__(self, status, code="", message="", **more):
        super().__init__(message)
        self.status, self.code, self.message, self.more = status, code, message, more


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def do_POST(self):
        self._answer()

    def do_PUT(self):
        self._answer()

    def _answer(self):
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append((self.command, path))
        try:
            if self.hub.failing is not None and self.hub.failing[0] in path:
                raise _RefusedError(self.hub.failing[1], message="out of order")
            for method, pattern, act in _ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method.split():
                    return act(self, *found.groups())
            raise _RefusedError(404, message=f"no route {self.command} {path}")
        except _RefusedError as error:
            headers = {"X-Error-Code": error.code} if error.code else {}
            if error.message:
                headers["X-Error-Message"] = error.message
            self._send(error.status, json.dumps({"error": error.message, **error.more}).encode(), headers)

    def _send(self, status, content=b"", headers=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    @property
    def token(self):
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _check_write(self, name):
        if self.token not in (TOKEN, READER):
            raise _RefusedError(401, message="Invalid username or password.")
        if self.token != TOKEN or name.partition("/")[0] != OWNER:
            raise _RefusedError(403, message=f"you may not write to {name}")

    def _stored(self, name):
        stored = self.hub.repositories.get(name)
        if stored is None or (stored.private and self.token not in (TOKEN, READER)):
            raise _RefusedError(401 if not self.token else 404, "RepoNotFound", "Repository not found")
        return stored

    def _commit_of(self, stored, revision):
        commit = stored.find(revision)
        if commit is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def create(self):
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        self._check_write(name)
        if name in self.hub.repositories:
            raise _RefusedError(409, message="You already created this model repo", url=f"{self.hub.url}/{name}")
        self.hub.repositories[name] = Stored(private=asked.get("visibility") == "private")
        self._json({"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def branch(self, name, branch):
        self._check_write(name)
        stored = self._stored(name)
        if branch in stored.branches:
            raise _RefusedError(409, message="Reference already exists")
        stored.branches[branch] = stored.branches["main"]
        self._json({})

    def validate(self):
        text = json.loads(self.body)["content"]
        errors = []
        try:
            matter = yaml.safe_load(text.split("---")[1])
            errors += [] if isinstance(matter, dict) else [{"message": "no front matter"}]
        except yaml.YAMLError as error:
            errors.append({"message": str(error)})
        self._json({"errors": errors, "warnings": []})

    def preupload(self, name, revision):
        self._check_write(name)
        files = self._stored(name).commits[self._commit_of(self._stored(name), revision)]
        found = []
        for each in json.loads(self.body)["files"]:
            base64.b64decode(each["sample"])
            mode = "lfs" if each["size"] > LARGE or each["path"].endswith(".safetensors") else "regular"
            found.append({"path": each["path"], "uploadMode": mode, "shouldIgnore": False})
            assert each["path"] not in files or files[each["path"]] is not None
        self._json({"files": found})

    def batch(self, name):
        self._check_write(name)
        asked = json.loads(self.body)
        assert asked["operation"] == "upload"
        assert "basic" in asked["transfers"]
        objects = []
        for each in asked["objects"]:
            there = each["oid"] in self.hub.large
            actions = {
                "upload": {"href": f"{self.hub.store}/large/{each['oid']}"},
                "verify": {"href": f"{self.hub.url}/verify/{each['oid']}"},
            }
            objects.append({**each, **({} if there else {"actions": actions})})
        self._json({"transfer": "basic", "objects": objects})

    def put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _RefusedError(400, message="the content is not that of its sum")
        self.hub.large[oid] = self.body
        self._send(200)

    def verify(self, oid):
        if len(self.hub.large.get(oid, b"")) != json.loads(self.body)["size"]:
            raise _RefusedError(404, message="no such object")
        self._json({})

    def commit(self, name, revision):
        self._check_write(name)
        stored = self._stored(name)
        header, *lines = map(json.loads, self.body.splitlines())
        assert header["key"] == "header"
        files = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                assert value["encoding"] == "base64"
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                assert line["key"] == "lfsFile"
                assert value["algo"] == "sha256"
                if value["oid"] not in self.hub.large:
                    raise _RefusedError(400, message="a large file is missing")
                files[value["path"]] = _POINTER + value["oid"].encode()
        self._commit_of(stored, revision)
        made = stored.commit(revision, files, header["value"]["summary"])
        self._json({"success": True, "commitOid": made, "commitUrl": f"{self.hub.url}/{name}/commit/{made}"})

    def info(self, name, revision=None):
        stored = self._stored(name)
        commit = self._commit_of(stored, revision or "main")
        files = [{"rfilename": path} for path in stored.commits[commit]]
        self._json({"id": name, "modelId": name, "sha": commit, "private": stored.private, "siblings": files})

    def resolve(self, name, revision, path):
        stored = self._stored(name)
        if stored.gated and self.token != TOKEN:
            raise _RefusedError(403, "GatedRepo", "Access to this model is restricted")
        commit = self._commit_of(stored, revision)
        content = stored.commits[commit].get(path)
        if content is None:
            raise _RefusedError(404, "EntryNotFound", f"Entry not found: {path}")
        headers = {"X-Repo-Commit": commit}
        if content.startswith(_POINTER):
            oid = content.removeprefix(_POINTER).decode()
            size = str(len(self.hub.large[oid]))
            linked = {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": size, "Location": f"{self.hub.store}/large/{oid}"}
            return self._send(302, b"", {**headers, **linked})
        self._send(200, content, {**headers, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})

    def get_large(self, oid):
        self._send(200, self.hub.large[oid], {"ETag": f'"{oid}"'})


_MODEL = r"([^/]+/[^/]+)"
_ROUTES = (
    ("POST", "/api/repos/create", _Handler.create),
    ("POST", f"/api/models/{_MODEL}/branch/(.+)", _Handler.branch),
    ("POST", "/api/validate-yaml", _Handler.validate),
    ("POST", f"/api/models/{_MODEL}/preupload/(.+)", _Handler.preupload),
    ("POST", rf"/{_MODEL}\.git/info/lfs/objects/batch", _Handler.batch),
    ("PUT", "/large/(.+)", _Handler.put),
    ("POST", "/verify/(.+)", _Handler.verify),
    ("POST", f"/api/models/{_MODEL}/commit/(.+)", _Handler.commit),
    ("GET", f"/api/models/{_MODEL}/revision/(.+)", _Handler.info),
    ("GET", f"/api/models/{_MODEL}", _Handler.info),
    ("GET HEAD", rf"/{_MODEL}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("GET HEAD", "/large/(.+)", _Handler.get_large),
)
