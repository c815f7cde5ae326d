"""Trees of git repositories, fetched and checked out by the git program.

A repository is hostile: no configuration of the caller's, no hooks, no filters, no transport but those that
were meant (submodules: never a path on this machine), and no word that git could take for an option.  Objects
are kept below ``cache/build/git`` by remote; what is checked out is the caller's to remove.  Times of all files
are those of the commit, so that the same commit makes the same layer.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess

from rootless.builder.remotes import without_password
from rootless.errors import BuildError
from rootless.linux import inroot
from rootless.store import files
from rootless.store.layers import drop_lock, take_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.builder.remotes import GitSource

_REMOTE = "https:http:ssh:git"
_KEPT = ("PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_OPTIONS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.symlinks": "true",
    "core.autocrlf": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "advice.detachedHead": "false",
    "init.defaultBranch": "main",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "protocol.ext.allow": "never",
}


class Git:
    """git for one repository.

    TOKEN and HEADER authorize over HTTP; AGENT is the socket of an SSH agent.  OWN: the user named the
    repository, so that their own keys may open it.
    """

    def __init__(
        self,
        source: GitSource,
        cache: str,
        env: Mapping[str, str],
        *,
        own: bool = False,
        agent: str = "",
        token: str = "",
        header: str = "",
    ) -> None:
        self.source = source
        self._cache = f"{cache}/git/{hashlib.sha256(source.remote.encode()).hexdigest()}"
        self._caller = env
        self._own = own
        self._agent = agent
        self._header = header or (_basic(token) if token else "")
        self.sha = ""
        self._full = ""

    # asking

    def resolve(self) -> str:
        """The commit that is meant; raises BuildError."""
        source = self.source
        if source.commit:
            self.sha = self._full = source.commit
        else:
            self.sha, self._full = self._found(source.ref)
        if source.checksum and not self.sha.startswith(source.checksum):
            raise BuildError(
                f"cannot use {source.shown}: expected checksum to match {source.checksum}, got {self.sha}"
            )
        return self.sha

    def _found(self, ref: str) -> tuple[str, str]:
        """(commit, full name) of a branch, a tag or any other ref, in this order."""
        asked = ["HEAD"]
        if ref:
            asked = [f"refs/heads/{_less(ref, 'heads')}", f"refs/tags/{_less(ref, 'tags')}^{{}}"]
            asked += [f"refs/tags/{_less(ref, 'tags')}", f"refs/{_less(ref, '')}"]
        out = self._git(["ls-remote", "--", self.source.remote, *asked], "read")
        have: dict[str, str] = {}
        for line in out.splitlines():
            sha, _, name = line.partition("\t")
            have[name] = sha
        for name in asked:
            if name in have:
                return have[name], name[:-3] if name.endswith("^{}") else name
        raise BuildError(
            f"cannot use {self.source.shown}: it has no {f'ref {ref}' if ref else 'HEAD'}",
            hint="a commit is named by all of its 40 digits" if _hexadecimal(ref) else "",
        )

    # fetching

    def checkout(self, target: str) -> None:
        """Check the commit out to TARGET, a new directory."""
        if not self.sha:
            self.resolve()
        try:
            files.ensure_dir(os.path.dirname(self._cache))
            lock = take_lock(f"{self._cache}.lock")
            try:
                self._fetch()
                files.ensure_dir(os.path.dirname(target))
                self._tree(target)
            finally:
                drop_lock(f"{self._cache}.lock", lock)
        except OSError as error:
            raise files.failure(f"check out {self.source.shown}", error) from None

    def _has(self) -> bool:
        name = f"{self.sha}^{{commit}}"
        return self._run(["cat-file", "-e", name], self._cache).returncode == 0

    def _fetch(self) -> None:
        """Have the commit in the cache, as little else as the server allows."""
        if not os.path.isdir(f"{self._cache}/objects"):
            files_left = f"{self._cache}.new"
            shutil.rmtree(files_left, ignore_errors=True)
            kind = "sha256" if len(self.sha) == 64 else "sha1"
            words = ["init", "-q", "--bare", "--template=", f"--object-format={kind}", files_left]
            self._git(words, "prepare")
            os.rename(files_left, self._cache)
        os.utime(self._cache)
        if self._has():
            return
        remote = ["--", self.source.remote]
        common = [
            "fetch",
            "-q",
            "--no-tags",
            "--force",
            "--no-recurse-submodules",
            "--no-write-fetch-head",
        ]
        kept = f"refs/rootless/{self.sha}"
        tries = [
            [*common, "--depth=1", *remote, f"{self.sha}:{kept}"],
            [*common, "--depth=1", *remote, f"{self._full}:{kept}"],
            [
                *common,
                *remote,
                "+refs/heads/*:refs/rootless/heads/*",
                "+refs/tags/*:refs/rootless/tags/*",
            ],
        ]
        if self._full == self.sha:
            del tries[1]
        failed = ""
        for words in tries:
            done = self._run(words, self._cache)
            failed = failed or done.stderr
            if done.returncode == 0 and self._has():
                self._git(["update-ref", kept, self.sha], "fetch", self._cache)
                return
        raise self._error("fetch", failed or f"it has no commit {self.sha}")

    def _tree(self, target: str) -> None:
        """Check out from the cache, with submodules from where they are."""
        os.mkdir(target, 0o755)
        kind = "sha256" if len(self.sha) == 64 else "sha1"
        here = f"{target}/.git"
        self._git(["init", "-q", "--template=", f"--object-format={kind}", target], "check out")
        fetch = ["fetch", "-q", "--no-tags", "--depth=1", "--", f"file://{self._cache}"]
        self._git([*fetch, f"refs/rootless/{self.sha}"], "check out", here, allow="file")
        self._git(["config", "remote.origin.url", without_secret(self.source)], "check out", here)
        words = ["checkout", "-q", "--force", "--detach", self.sha]
        self._git(words, "check out", here, tree=target)
        when = int(self._git(["show", "-s", "--format=%ct", self.sha], "check out", here) or 0)
        if self.source.submodules and os.path.lexists(f"{target}/.gitmodules"):
            words = ["submodule", "update", "-q", "--init", "--recursive", "--depth=1"]
            self._git(words, "fetch submodules of", here, tree=target)
        self._clean(target, when)

    def _clean(self, target: str, when: int) -> None:
        """Take git's own files away unless they are wanted; modes are 644 and 755, times the commit's."""
        keep = self.source.keep_git_dir
        if not keep:
            shutil.rmtree(f"{target}/.git")
        for top, _, names, fd in os.fwalk(target, topdown=False, follow_symlinks=False):
            if keep and f"{top}/".startswith(f"{target}/.git/"):
                continue
            for name in names:
                info = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if name == ".git" and not keep:  # of a submodule: it leads nowhere any more
                    os.unlink(name, dir_fd=fd)
                    continue
                if stat.S_ISREG(info.st_mode):
                    os.chmod(name, 0o755 if info.st_mode & 0o100 else 0o644, dir_fd=fd)
                os.utime(name, (when, when), dir_fd=fd, follow_symlinks=False)
            os.utime(fd, (when, when))

    def inside(self, target: str) -> str:
        """The directory of a checkout that is meant, no link of the repository leading out of it."""
        if not self.source.subdir:
            return target
        top = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY
            fd = inroot.open_path(top, os.fsencode(self.source.subdir), flags)
            try:
                return os.readlink(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
        except OSError as error:
            raise BuildError(
                f"cannot use directory {self.source.subdir} of {self.source.shown}: {files.reason(error)}"
            ) from None
        finally:
            os.close(top)

    # the program

    def _environment(self, allow: str) -> dict[str, str]:
        caller = self._caller
        env = {key: caller[key] for key in _KEPT if key in caller}
        for name in _PROXIES:
            for key in (name, name.upper()):
                if key in caller:
                    env[key] = caller[key]
        env.update(
            LC_ALL="C",
            HOME="/dev/null",
            GIT_CONFIG_NOSYSTEM="1",
            GIT_CONFIG_GLOBAL="/dev/null",
            GIT_ATTR_NOSYSTEM="1",
            GIT_TERMINAL_PROMPT="0",
            GIT_NO_REPLACE_OBJECTS="1",
            GIT_ALLOW_PROTOCOL=allow or _REMOTE,
            GIT_SSH_COMMAND="ssh -oBatchMode=yes -oPermitLocalCommand=no",
        )
        agent = self._agent or (caller.get("SSH_AUTH_SOCK", "") if self._own else "")
        if agent:
            env["SSH_AUTH_SOCK"] = agent
        if not self._own:  # a Dockerfile's word does not open what the user's keys open
            env["GIT_SSH_COMMAND"] += " -F/dev/null -oIdentityFile=none"
        settings = dict(_OPTIONS)
        if self._header:
            where = "/".join(self.source.remote.split("/", 3)[:3])
            settings[f"http.{where}/.extraHeader"] = f"Authorization: {self._header}"
        env["GIT_CONFIG_COUNT"] = str(len(settings))
        for number, (key, value) in enumerate(settings.items()):
            env[f"GIT_CONFIG_KEY_{number}"] = key
            env[f"GIT_CONFIG_VALUE_{number}"] = value
        return env

    def _run(
        self, words: list[str], directory: str = "", tree: str = "", allow: str = ""
    ) -> subprocess.CompletedProcess[str]:
        env = self._environment(
            allow or ("file" if self.source.local and words[0] in _LOCAL else "")
        )
        if directory:
            env["GIT_DIR"] = directory
        if tree:
            env["GIT_WORK_TREE"] = tree
        options: dict[str, Any] = {"cwd": tree or "/"}
        try:
            return subprocess.run(
                ["git", *words],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                umask=0o022,
                **options,
            )
        except FileNotFoundError:
            raise BuildError(
                f"cannot fetch {self.source.shown}: git is not installed",
                hint="install git, or give an archive of the repository",
            ) from None

    def _git(
        self, words: list[str], verb: str, directory: str = "", tree: str = "", allow: str = ""
    ) -> str:
        done = self._run(words, directory, tree, allow)
        if done.returncode:
            raise self._error(verb, done.stderr)
        return done.stdout

    def _error(self, verb: str, text: str) -> BuildError:
        told = "; ".join(line.strip() for line in text.splitlines() if line.strip())
        told = "".join(c if c.isprintable() else "?" for c in without_password(told))[-600:]
        return BuildError(f"cannot {verb} {self.source.shown}: {told or 'git failed'}")


_LOCAL = ("ls-remote", "fetch")


def _basic(token: str) -> str:
    import base64

    return "basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()


def _less(ref: str, kind: str) -> str:
    """REF without refs/KIND/ before it."""
    head = f"refs/{kind}/" if kind else "refs/"
    return ref[len(head) :] if ref.startswith(head) else ref


def _hexadecimal(text: str) -> bool:
    return bool(text) and not set(text) - set("0123456789abcdef")


def without_secret(source: GitSource) -> str:
    """The remote as .git/config may have it: a layer may hold it."""
    scheme, mark, rest = source.remote.partition("://")
    if not mark:
        return source.remote
    host, slash, path = rest.partition("/")
    user, at, name = host.rpartition("@")
    user = user.partition(":")[0] if scheme == "ssh" else ""
    return f"{scheme}://{user + at if user else ''}{name}{slash}{path}"
