"""A headless Chromium, driven through its debugging pipe (Debian's package `chromium`; nothing else is needed)."""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time


def high(descriptor):
    """The same out of the way of 3 and 4."""
    other = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 20)
    os.close(descriptor)
    return other


class Refused(AssertionError):
    """The browser answered a command with an error."""


class Browser:
    # Chromium itself now and then crashes, or stands still, while it starts; nothing is tried yet then.
    STARTS = 3

    def __init__(self, through=()):
        for left in reversed(range(self.STARTS)):
            try:
                self.start(through)
                return
            except (AssertionError, OSError) as problem:
                said = f"Chromium didn't start: {problem}\n{self.report()}"
                self.close()
                if not left:
                    raise AssertionError(said) from None
                print(f"{said}\nit is started again", file=sys.stderr, flush=True)

    def start(self, through):
        self.profile = tempfile.mkdtemp(prefix="triadpage-browser-")
        self.log = os.path.join(self.profile, "said")
        # Chromium reads commands from descriptor 3 and answers on 4, each message ended by a zero byte.
        to_read, self.to = (high(one) for one in os.pipe())
        self.come, from_write = (high(one) for one in os.pipe())
        # The flags are Chromium's own; a namespace that isn't ours to sandbox in is why there is no sandbox.
        command = [*through, "chromium", "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu",
                   "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
                   f"--user-data-dir={self.profile}", "about:blank"]
        script = f'exec 3<&{to_read} 4>&{from_write} {to_read}<&- {from_write}>&-; exec "$@"'
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script, "bash", *command], pass_fds=[to_read, from_write], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        os.close(to_read)
        os.close(from_write)
        self.buffer = b""
        self.number = 0
        self.complaints = []
        self.loaded = set()
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"]:
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)
        # Else a picture lacks as much at its right edge as a scroll bar is wide.
        self.call("Emulation.setScrollbarsHidden", hidden=True)

    def close(self):
        try:
            self.call("Browser.close", seconds=10)
            self.process.wait(10)
        except (OSError, AssertionError, subprocess.TimeoutExpired):
            pass
        try:
            # What is left of it, helpers included.
            os.killpg(self.process.pid, 9)
        except ProcessLookupError:
            pass
        self.process.wait()
        for pipe in (self.to, self.come):
            os.close(pipe)
        shutil.rmtree(self.profile, ignore_errors=True)

    def report(self, lines=15):
        """What Chromium itself said last, and what it found wrong with the page."""
        with open(self.log, errors="replace") as file:
            said = file.read().rstrip().split("\n")[-lines:]
        return "\n".join(["-- chromium:", *(one[:300] for one in said), *(f"on the console: {one[:300]}" for one in self.complaints[-10:])])

    def call(self, method, seconds=120, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session and not method.startswith(("Target.", "Browser.")):
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                return answer["result"]

    def receive(self, deadline):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.come], [], [], left)[0], "the browser is silent"
            piece = os.read(self.come, 1 << 20)
            assert piece, "the browser ended"
            self.buffer += piece
        text, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(text)
        self.listen(message.get("method"), message.get("params", {}))
        return message

    def listen(self, method, said):
        """Which documents are whole, and whatever the browser finds wrong."""
        if method == "Page.lifecycleEvent" and said["name"] == "load":
            self.loaded.add(said["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(said["exceptionDetails"].get("exception", {}).get("description", str(said)))
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(f"console: {said['args']}")
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")

    def open(self, url):
        """Goes to a page, until its document is whole."""
        document = self.call("Page.navigate", url=url)
        assert not document.get("errorText"), f"{url}: {document['errorText']}"
        deadline = time.monotonic() + 60
        while document["loaderId"] not in self.loaded:
            self.receive(deadline)

    def run(self, script):
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{script}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def press(self, key):
        """A key of the keyboard: `Tab`, `Enter`, `Escape`."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ["keyDown", "keyUp"]:
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text)
            text = {}

    def accessible(self):
        """What a screen reader is told: (role, name) of everything."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]

    def size(self, width, height=900, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def scheme(self, name):
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def look(self, file, width=1280, height=900, dark=False, phone=False):
        """A picture of the whole page."""
        self.size(width, height, phone)
        self.scheme("dark" if dark else "light")
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))
