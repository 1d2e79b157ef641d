"""The style sheet of a report's page: both themes, from a phone to paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark;
  --page: #fff; --text: #1a1d21; --quiet: #565d66; --rule: #d5d9de; --panel: #f4f6f8;
  --c1: #0062a3; --c2: #b34700; --c3: #00735a; --heat: 0, 98, 163; }
@media (prefers-color-scheme: dark) { :root {
  --page: #14171a; --text: #e7eaee; --quiet: #a5adb7; --rule: #3a4149; --panel: #1e2328;
  --c1: #6cb8f0; --c2: #f39a5c; --c3: #4fc9a7; --heat: 74, 144, 196; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 0 1rem 3rem; max-width: 66rem; background: var(--page);
  color: var(--text); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 1.2rem 0 0; line-height: 1.2; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 44rem; }
a { color: var(--c1); }
:focus-visible { outline: 2px solid var(--c1); outline-offset: 2px; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.quiet, figcaption, caption, dt { color: var(--quiet); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem 1.2rem;
  margin: 1rem 0; }
dt { font-size: .875rem; } dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.pairs { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr));
  gap: 0 1.5rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: 1rem 1.5rem; }
figure { margin: .6rem 0; } figcaption { font-size: .875rem; }
svg { display: block; width: 100%; max-width: 34rem; height: auto; }
svg.wide { max-width: 60rem; min-width: 40rem; }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--rule); stroke-width: .6; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); stroke-dasharray: 6 3; }
.line.c3 { stroke: var(--c3); stroke-dasharray: 2 3; }
.line.faint { stroke: var(--c1); opacity: .3; stroke-width: 1; }
.line.ideal { stroke: var(--quiet); stroke-dasharray: 4 4; stroke-width: 1.2; }
.dot.c1 { fill: var(--c1); } .dot.c2 { fill: var(--c2); } .dot.c3 { fill: var(--c3); }
.bar { fill: var(--c1); opacity: .75; stroke: var(--page); stroke-width: .8; }
.scroll { overflow-x: auto; margin: .8rem 0; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .3rem; }
caption span { position: sticky; left: 0; display: inline-block; max-width: calc(100vw - 2rem); }
tbody th, tfoot th { position: sticky; left: 0; background: var(--page); }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; overflow-wrap: normal; }
thead th { vertical-align: bottom; } tbody th { font-weight: 400; }
tfoot th, tfoot td { font-weight: 600; }
.n { text-align: right; white-space: nowrap; }
.matrix td, .matrix th { padding: .2rem .35rem; text-align: center;
  border: 1px solid var(--rule); border-width: 0 1px 1px 0; }
.matrix tbody th { text-align: right; white-space: nowrap; }
.matrix thead th:not(:first-child) { writing-mode: vertical-rl; text-align: left;
  max-height: 9rem; }
.matrix td { min-width: 1.9rem; background: rgba(var(--heat), calc(.42 * var(--p, 0))); }
.wide table { table-layout: fixed; width: 100%; } .wide thead th:first-child { width: 38%; }
.wide th, .wide td { overflow-wrap: anywhere; }
th button { all: unset; cursor: pointer; font: inherit; }
th button:focus-visible { outline: 2px solid var(--c1); outline-offset: 2px; }
.sortable tbody th { white-space: nowrap; }
th button::after { content: " \\2195"; color: var(--quiet); }
th[aria-sort="ascending"] button::after { content: " \\2191"; }
th[aria-sort="descending"] button::after { content: " \\2193"; }
.pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.4rem, 1fr));
  gap: .8rem; padding: 0; list-style: none; }
.pictures li { font-size: .8125rem; line-height: 1.35; }
.pictures img { display: block; width: 6rem; height: 6rem; margin-bottom: .25rem;
  background: var(--panel); }
img.small { image-rendering: pixelated; }
details { margin: .6rem 0; } summary { cursor: pointer; padding: .25rem 0; color: var(--c1); }
.button { display: inline-block; margin: .3rem 0; padding: .5rem .9rem; border-radius: .4rem;
  border: 1px solid var(--c1); text-decoration: none; }
.files { font-size: .8125rem; max-height: 20rem; overflow: auto; padding-left: 3.2rem; }
@media print { nav, .button { display: none; } body { max-width: none; }
  section, figure, tr { break-inside: avoid; } }
""".strip()
