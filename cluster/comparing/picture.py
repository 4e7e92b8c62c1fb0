"""The first round as a picture: who owned the VIP over time, a lane for each system below each fault."""

from record import ms

SHOWN = ["kill", "crash", "freeze", "cut-off", "stop"]
OLD, NEW, BOTH, NOBODY = "#4a78b0", "#5a9a5a", "#d22", "#fff"
LEFT, WIDTH, RIGHT, LANE, HEAD, BAR = 130, 640, 90, 26, 30, 14


def svg(faults, systems, results):
    shown = [fault for fault in faults if fault.name in SHOWN]
    seconds = max((fault.seconds for fault in shown), default=1)
    body, top = [], 34
    for fault in shown:
        body.append(text(8, top + 16, fault.title, 'font-weight="bold"'))
        top += HEAD
        for make in systems:
            body += lane(results[fault.name, make.name][0], make.name, seconds, top)
            top += LANE
        top += 8
    for second in range(seconds + 1):
        body.append(text(LEFT + second / seconds * WIDTH, top + 12, f"{second} s", 'text-anchor="middle" fill="#777"'))
    width, height = LEFT + WIDTH + RIGHT, top + 22
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>', *legend(), *body, "</svg>", ""])


def lane(window, name, seconds, top):
    """Who owned the VIP in one window, with a tick below for each twentieth of a second in which a request failed."""
    scale = WIDTH / seconds / 1e9

    def bar(start, stop, colour, more=""):
        return (f'<rect x="{LEFT + (start - window.begin) * scale:.1f}" y="{top}" '
                f'width="{max(0.5, (stop - start) * scale):.1f}" height="{BAR}" fill="{colour}"{more}/>')

    parts = [text(LEFT - 8, top + 11, name, 'text-anchor="end"'),
             bar(window.begin, window.end, NOBODY, ' stroke="#999" stroke-dasharray="2 2"')]
    parts += [bar(start, stop, OLD if node in window.before else NEW) for node, start, stop in window.owners]
    parts += [bar(start, stop, BOTH) for start, stop in window.doubles]
    ticks = sorted({int((moment - window.begin) / 5e7) for moment in window.failures})
    if ticks:
        path = "".join(f"M{LEFT + (tick + 0.5) * 5e7 * scale:.1f} {top + BAR + 2}v4" for tick in ticks)
        parts.append(f'<path d="{path}" stroke="{BOTH}" stroke-width="1.2"/>')
    return parts + [text(LEFT + WIDTH + 8, top + 11, ms(window.outage_ms) if ticks else "none failed")]


def legend():
    parts, x = [], 8
    for colour, words in [(OLD, "the owner before"), (NEW, "another node"),
                          (BOTH, "two nodes at once; below: requests fail"), (NOBODY, "nobody answers for the VIP")]:
        parts += [f'<rect x="{x}" y="8" width="12" height="12" fill="{colour}" stroke="#999"/>', text(x + 17, 18, words)]
        x += 34 + 6 * len(words)
    return parts + [text(LEFT + WIDTH + 8, 18, "outage")]


def text(x, y, words, more=""):
    return f'<text x="{x:.1f}" y="{y}" {more}>{words}</text>'
