"""The style sheet of the report: system fonts, light and dark, one column on a phone."""

CSS = """
:root { color-scheme: light dark; --page: #fcfcfa; --card: #ffffff; --ink: #1c1e21;
  --muted: #6b7076; --line: #dcdeda; --good: #00734f; --bad: #b84a00; --tint: #e8f1ec;
  --shade: #1c1e2140; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1c1f23; --ink: #e9eaec;
  --muted: #9aa0a7; --line: #353a40; --good: #4cc79b; --bad: #ff9a57; --tint: #20352d;
  --shade: #e9eaec50; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 1180px;
  background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: clamp(1.7rem, 5vw, 2.5rem); line-height: 1.15; margin: 0 0 .3rem;
  letter-spacing: -.02em; }
h2 { font-size: 1.35rem; margin: 3.2rem 0 .4rem; letter-spacing: -.01em; }
h3, h4 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, li, dd, figcaption { overflow-wrap: anywhere; }
p { max-width: 72ch; margin: .4rem 0 1rem; }
.lead, figcaption, .note, dt { color: var(--muted); }
.lead { font-size: 1.08rem; }
.note, figcaption { font-size: .875rem; line-height: 1.45; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .9rem; margin: 1.4rem 0;
  padding: .6rem 0; border-block: 1px solid var(--line); }
a { color: inherit; text-decoration-color: var(--muted); text-underline-offset: .2em; }
dl.facts { display: grid; gap: .9rem 2rem; margin: 1.4rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
dl.facts div { min-width: 0; } dl.facts .long { grid-column: 1 / -1; }
dt { font-size: .8rem; } dd { margin: 0; font-size: .95rem; }
.tiles { display: grid; gap: .8rem; margin: 1rem 0 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem), 1fr)); }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: .9rem 1rem; min-width: 0; }
.tile b { display: block; font-size: 1.3rem; line-height: 1.3; overflow-wrap: anywhere; }
.tile span { display: block; color: var(--muted); font-size: .85rem; }
.scroll { overflow-x: auto; margin: .6rem 0; scrollbar-width: thin; /* a shade: it goes on */
  background:
    linear-gradient(to left, var(--page), var(--page)) right / 1.6rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 1.4rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
.wide table { width: 100%; }
th, td { padding: .42rem .5rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
thead th { font-size: .8rem; font-weight: 600; color: var(--muted); vertical-align: bottom;
  white-space: normal; min-width: 4.2rem; line-height: 1.3; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
th button { all: unset; cursor: pointer; }
th button:hover { text-decoration: underline; }
th button:focus-visible, summary:focus-visible { outline: 2px solid currentColor;
  outline-offset: 2px; }
th[aria-sort] button { color: var(--ink); }
th[aria-sort="ascending"] button::after { content: " ▲"; }
th[aria-sort="descending"] button::after { content: " ▼"; }
tbody th { font-weight: 500; }
tr.group th { color: var(--ink); font-weight: 650; padding-top: 1.1rem; white-space: normal; }
tr.group span { display: block; position: sticky; left: .5rem; width: fit-content;
  max-width: min(100%, calc(92vw - 2rem)); }
td.best { font-weight: 700; background: var(--tint); }
.figures { display: grid; gap: 1.6rem 2rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
figure { margin: 0; min-width: 0; max-width: 34rem; }
figure h3 { margin-top: 0; }
figure > svg { display: block; width: 100%; height: auto; fill: var(--ink); }
figure > svg * { stroke-linejoin: round; stroke-linecap: butt; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .5rem 0; padding: 0;
  list-style: none; font-size: .88rem; }
.swatch { width: 26px; height: 10px; margin-right: .45em; vertical-align: baseline; }
.symbol { width: 13px; height: 13px; margin-right: .4em; vertical-align: -.1em; }
.examples { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }
.example header { display: flex; gap: .8rem; align-items: end; line-height: 1.3; }
.example img { width: 104px; height: 104px; object-fit: contain; border-radius: 6px;
  background: var(--line); }
.example img.pixels { image-rendering: pixelated; }
.example ul { list-style: none; margin: .4rem 0 0; padding: 0; font-size: .82rem; display: grid;
  grid-template-columns: 1em minmax(0, 1fr) fit-content(7.5em) max-content; gap: 0 .4rem; }
.example li { display: grid; grid-column: 1 / -1; padding: .15rem 0; line-height: 1.35;
  grid-template-columns: 1em minmax(0, 1fr) minmax(0, 1fr) 3em; grid-template-columns: subgrid; }
.example li small { color: var(--muted); font-size: 1em; min-width: 0; }
.example li > :nth-child(4) { text-align: right; white-space: nowrap; padding-left: .3rem;
  font-variant-numeric: tabular-nums; }
h4 { font-size: .9rem; color: var(--muted); margin: .9rem 0 .3rem; }
.mistake header > div > * { display: block; overflow-wrap: anywhere; }
.example .bar { grid-column: 2 / -1; height: 3px; border-radius: 2px; background: var(--line); }
.example .bar i { display: block; height: 3px; border-radius: 2px; background: currentColor; }
.right { color: var(--good); } .wrong { color: var(--bad); } .unknown { color: var(--muted); }
.example b { color: var(--ink); font-weight: 600; min-width: 0; }
.example li > span { color: var(--ink); } .example li > .mark { color: inherit; }
@media (max-width: 40rem) { .examples { grid-auto-flow: column; grid-auto-columns: min(82%, 17rem);
  grid-template-columns: none; overflow-x: auto; padding-bottom: .5rem; } }
details { margin: 1rem 0; border-top: 1px solid var(--line); padding-top: .7rem; }
summary { cursor: pointer; font-weight: 600; }
pre { overflow-x: auto; font: .82rem/1.5 ui-monospace, Menlo, Consolas, monospace; }
footer { margin-top: 3rem; }
@media print { details > * { display: block; } .card, figure { break-inside: avoid; } }
""".strip()
