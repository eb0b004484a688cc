"""
A Hub on the loopback, for tests: what huggingface_hub really says and hears over HTTP, without the far side.

It knows models only: creating repositories, branches and pull requests, `preupload`, LFS in one piece or in parts,
commits as NDJSON, trees, model info, and `resolve` with etags. Every commit has an id and all of its files, so old
revisions stay readable. Xet, the Hub's other storage, is not spoken; `HF_HUB_DISABLE_XET` turns it off.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub import ModelCard


TOKEN = "hf_of_the_tests"
LARGE = (".safetensors", ".bin", ".png", ".pt")  # what the Hub's .gitattributes give to LFS
PART = 1 << 20  # files above go up in parts; on the Hub that begins at 5 GB
DATE = "2026-01-01T00:00:00.000Z"


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class File:
    content: bytes
    large: bool

    @cached_property
    def etag(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.large else git_hash(self.content)

    @property
    def pointer(self) -> bytes:
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.etag}\nsize {len(self.content)}\n".encode()
        )

    def entry(self, path: str) -> dict:
        """What a tree says of it."""
        known = {"type": "file", "path": path, "size": len(self.content)}
        if not self.large:
            return known | {"oid": self.etag}
        lfs = {"oid": self.etag, "size": len(self.content), "pointerSize": len(self.pointer)}
        return known | {"oid": git_hash(self.pointer), "lfs": lfs}


@dataclass
class Commit:
    title: str
    files: dict[str, File]
    parent: str | None

    @cached_property
    def id(self) -> str:
        tree = sorted((path, file.etag) for path, file in self.files.items())
        return hashlib.sha1(repr((self.title, self.parent, tree)).encode()).hexdigest()


@dataclass
class Repository:
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit("main", "initial commit", {".gitattributes": File(b"*.safetensors filter=lfs\n", False)})

    def commit(self, branch: str, title: str, files: dict[str, File]) -> Commit:
        commit = Commit(title, files, self.branches.get(branch))
        self.commits[commit.id] = commit
        self.branches[branch] = commit.id
        return commit

    def at(self, revision: str) -> Commit:
        commit = self.commits.get(self.branches.get(revision, revision))
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit


class Refusal(Exception):
    """What the Hub answers instead."""

    def __init__(self, status: int, code: str, message: str, commit: str = "", **known: str):
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message} | (
            {"X-Repo-Commit": commit} if commit else {}
        )
        self.content = {"error": message} | known


class HubServer(ThreadingHTTPServer):
    """
    Use it as a context. `endpoint` is its address, `repositories` what it holds, `requests` what it was asked, as
    `"METHOD path"`. Of a request that begins with `cut` it reads half, and hangs up without an answer, every time.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.storage = f"http://localhost:{self.server_port}"  # the Hub's is another host, too
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}  # large files, by SHA-256
        self.parts: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut: str | None = None
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """A client that is gone is no matter for the log of the tests; what goes wrong here is answered with 500."""

    def environment(self, cache) -> dict[str, str]:
        """For another process: this Hub is the Hub."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
        }

    def take_over(self, monkeypatch, cache) -> None:
        """For this process, which has read its environment long since: what huggingface_hub made of it."""
        from huggingface_hub import constants
        from transformers.utils import hub

        monkeypatch.setenv("HF_TOKEN", TOKEN)
        for name, value in {
            "ENDPOINT": self.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_OFFLINE": False,
        }.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", self.endpoint)
        monkeypatch.setattr(hub, "_hf_api", None, raising=False)  # older ones have none

    def files(self, repository: str, revision: str = "main") -> dict[str, bytes]:
        """What somebody sees there."""
        commit = self.repositories[repository].at(revision)
        return {path: file.content for path, file in commit.files.items() if path != ".gitattributes"}

    def copy(self, repository: str, folder: Path) -> Path:
        """Writes it there, as a download with a browser does."""
        folder.mkdir()
        for path, content in self.files(repository).items():
            (folder / path).write_bytes(content)
        return folder


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *args):
        pass

    def handle_request(self):
        address = urlsplit(self.path)
        self.path, self.query = address.path, parse_qs(address.query)
        asked = f"{self.command} {unquote(self.path)}"
        self.server.requests.append(asked)
        if self.server.cut and asked.startswith(self.server.cut):
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            return
        self.body = b"".join(self.read_body())
        try:
            for method, pattern, answer in ROUTES:
                if method in (self.command, "GET" if self.command == "HEAD" else None):
                    if found := re.fullmatch(pattern, self.path):
                        with self.server.lock:
                            return answer(self, *map(unquote, found.groups()))
            raise Refusal(404, "NotSpoken", f"This server does not speak {asked}")
        except Refusal as refusal:
            self.answer(json.dumps(refusal.content).encode(), refusal.status, **refusal.headers)
        except Exception as error:
            self.answer(json.dumps({"error": repr(error)}).encode(), 500)

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def read_body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def answer(self, content: bytes = b"", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def answer_json(self, content: object) -> None:
        self.answer(json.dumps(content).encode(), Content_Type="application/json")

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    # Who asks, and for what

    def writer(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "", "Invalid username or password.")

    def repository(self, name: str) -> Repository:
        known = self.server.repositories.get(name)
        if known is None or known.private and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(404 if "Authorization" in self.headers else 401, "RepoNotFound", "Repository not found")
        return known

    # Answers

    def whoami(self) -> None:
        self.writer()
        self.answer_json({"type": "user", "name": "someone", "fullname": "Someone", "orgs": [{"name": "org"}]})

    def validate_yaml(self) -> None:
        """The Hub's own rules are not public; huggingface_hub's for reading it are kept."""
        try:
            known = ModelCard(self.json()["content"]).data.to_dict()
        except (ValueError, yaml.YAMLError) as error:
            raise Refusal(400, "", "Invalid metadata", errors=[{"message": str(error)}]) from error
        missing = [] if known else [{"message": "empty or missing yaml metadata in repo card"}]
        self.answer_json({"errors": [], "warnings": missing})

    def create(self) -> None:
        self.writer()
        asked = self.json()
        name = f"{asked['organization'] or 'someone'}/{asked['name']}"
        address = {"url": f"{self.server.endpoint}/{name}", "name": name}
        if name in self.server.repositories:
            raise Refusal(409, "", "You already created this model repo", **address)
        self.server.repositories[name] = Repository(
            "private" in (asked.get("visibility"), asked.get("private") and "private")
        )
        self.answer_json(address)

    def branch(self, name: str, branch: str) -> None:
        self.writer()
        repository = self.repository(name)
        if branch in repository.branches:
            raise Refusal(409, "", f"Reference already exists: {branch}")
        repository.branches[branch] = repository.at(self.json().get("startingPoint", "main")).id
        self.answer_json({})

    def preupload(self, name: str, revision: str) -> None:
        self.writer()
        there = self.repository(name).at(revision).files
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": there[file["path"]].etag if file["path"] in there else None,
            }
            for file in self.json()["files"]
        ]
        self.answer_json({"files": modes})

    def batch(self, name: str) -> None:
        self.writer()
        self.repository(name)
        found = []
        for wanted in self.json()["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.server.stored:
                address = f"{self.server.storage}/storage/{wanted['oid']}"
                parts = range(1, -(-wanted["size"] // PART) + 1)
                upload = {"href": address}
                if len(parts) > 1:
                    upload["header"] = {"chunk_size": str(PART)} | {f"{n}": f"{address}/{n}" for n in parts}
                verify = {"href": f"{self.server.endpoint}/verify/{name}"}
                answer["actions"] = {"upload": upload, "verify": verify}
            found.append(answer)
        self.answer_json({"transfer": "multipart", "objects": found})

    def store(self, oid: str) -> None:
        self.keep(oid, self.body)
        self.answer()

    def store_part(self, oid: str, number: str) -> None:
        self.server.parts[f"{oid}/{number}"] = self.body
        self.answer(ETag=f'"{number}"')

    def join_parts(self, oid: str) -> None:
        self.keep(oid, b"".join(self.server.parts.pop(f"{oid}/{part['partNumber']}") for part in self.json()["parts"]))
        self.answer()

    def keep(self, oid: str, content: bytes) -> None:
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "", "The content is not what its hash says.")
        self.server.stored[oid] = content

    def verify(self, name: str) -> None:
        self.writer()
        if len(self.server.stored.get(self.json()["oid"], b"")) != self.json()["size"]:
            raise Refusal(404, "", "Object not found")
        self.answer()

    def commit(self, name: str, revision: str) -> None:
        self.writer()
        repository = self.repository(name)
        header, *changes = map(json.loads, self.body.splitlines())
        files = dict(repository.at(revision).files)
        for change in changes:
            kind, value = change["key"], change["value"]
            if kind == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), large=False)
            elif kind == "lfsFile":
                if value["oid"] not in self.server.stored:
                    raise Refusal(400, "", f"LFS pointer of {value['path']} points to a file that does not exist")
                files[value["path"]] = File(self.server.stored[value["oid"]], large=True)
            elif kind == "deletedFile":
                del files[value["path"]]
            else:
                raise Refusal(400, "", f"unknown operation {kind}")
        requested = "create_pr" in self.query
        if requested:
            number = 1 + sum(branch.startswith("refs/pr/") for branch in repository.branches)
            repository.branches[f"refs/pr/{number}"] = repository.at(revision).id
            revision = f"refs/pr/{number}"
        made = repository.commit(revision, header["value"]["summary"], files)
        address = f"{self.server.endpoint}/{name}"
        answer = {"success": True, "commitOid": made.id, "commitUrl": f"{address}/commit/{made.id}"}
        self.answer_json(answer | ({"pullRequestUrl": f"{address}/discussions/{number}"} if requested else {}))

    def info(self, name: str, revision: str = "main") -> None:
        repository = self.repository(name)
        commit = repository.at(revision)
        known = {"_id": name, "id": name, "modelId": name, "sha": commit.id, "private": repository.private}
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        self.answer_json(known | {"lastModified": DATE, "tags": [], "siblings": siblings})

    def tree(self, name: str, revision: str, below: str | None = None) -> None:
        files = self.repository(name).at(revision).files
        start = f"{below}/" if below else ""
        self.answer_json([files[path].entry(path) for path in sorted(files) if path.startswith(start)])

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit = self.repository(name).at(revision)
        if path not in commit.files:
            raise Refusal(404, "EntryNotFound", "Entry not found", commit.id)
        file = commit.files[path]
        headers = {"X_Repo_Commit": commit.id, "ETag": f'"{file.etag}"'}
        if not file.large:
            return self.answer(file.content, **headers)
        headers |= {"X_Linked_Etag": f'"{file.etag}"', "X_Linked_Size": str(len(file.content))}
        self.answer(b"", 302, Location=f"{self.server.storage}/storage/{file.etag}", **headers)

    def stored(self, oid: str) -> None:
        self.answer(self.server.stored[oid])


MODEL, NAME = "/api/models/([^/]+/[^/]+)", "/([^/]+/[^/]+?)"
ROUTES = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", f"{MODEL}/branch/([^/]+)", Handler.branch),
    ("POST", f"{MODEL}/preupload/([^/]+)", Handler.preupload),
    ("POST", f"{MODEL}/commit/([^/]+)", Handler.commit),
    ("GET", f"{MODEL}", Handler.info),
    ("GET", f"{MODEL}/revision/([^/]+)", Handler.info),
    ("GET", f"{MODEL}/tree/([^/]+)", Handler.tree),
    ("GET", f"{MODEL}/tree/([^/]+)/(.+)", Handler.tree),
    ("POST", f"{NAME}.git/info/lfs/objects/batch", Handler.batch),
    ("POST", f"/verify{NAME}", Handler.verify),
    ("PUT", "/storage/([^/]+)", Handler.store),
    ("PUT", "/storage/([^/]+)/([^/]+)", Handler.store_part),
    ("POST", "/storage/([^/]+)", Handler.join_parts),
    ("GET", "/storage/([^/]+)", Handler.stored),
    ("GET", f"{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]
