"""Looks, in the page, for text that can't be read."""

# WCAG 2.1, 1.4.3: the contrast of text and what is behind it is 4.5 at least, 3 for large text. What lies behind is found by
# going up until something is opaque. The skip link is off the screen until it has the focus.
unreadable = """(() => {
    const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1] }
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1)
    const light = c => { const l = c.slice(0, 3).map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 })
        return 0.2126 * l[0] + 0.7152 * l[1] + 0.0722 * l[2] }
    const behind = element => {
        const layers = []
        for (let e = element; e; e = e.parentElement) layers.push(parse(getComputedStyle(e).backgroundColor))
        return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1])
    }
    const problems = new Set()
    for (const element of document.querySelectorAll("body *")) {
        if (element.closest("script, noscript, style, .skip") || !element.checkVisibility()) continue
        if (![...element.childNodes].some(child => child.nodeType == 3 && child.data.trim())) continue
        const style = getComputedStyle(element)
        const back = behind(element)
        const [a, b] = [light(over(parse(style.color), back)), light(back)]
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
        const size = parseFloat(style.fontSize)
        const isLarge = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700
        if (ratio < (isLarge ? 3 : 4.5))
            problems.add(`${element.localName}.${element.className} "${element.textContent.trim().slice(0, 20)}" ${ratio.toFixed(2)}`)
    }
    return [...problems].join("; ")
})()"""
