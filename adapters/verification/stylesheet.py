"""The style sheet of the page of `fixpoint verify`, for light and dark screens."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--paper:#fbfbf9;--rule:#d9dde3;
--card:#fff;--fit:#d0312d;--good:#1a7f4b;--fair:#1d63b8;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa6b5;--paper:#14181e;
--rule:#333c48;--card:#1b2129;--fit:#ff6b63;--good:#5fd39a;--fair:#7db4ff;--bad:#ff8a80}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:62rem;background:var(--paper);
color:var(--ink);font:16px/1.55 system-ui,sans-serif;overflow-wrap:break-word}
h1{font-size:1.7rem;line-height:1.2;margin:.5rem 0}
h2{font-size:1.3rem;margin:2.6rem 0 .4rem;padding-top:.9rem;border-top:1px solid var(--rule)}
h3{font-size:1.05rem;margin:1.6rem 0 .2rem}
header p,.note,small,figcaption,.key{color:var(--soft)}
.note,figcaption,.key{font-size:.875rem;margin:.3rem 0}
small{display:block;font-size:.8rem;font-weight:normal}
.formula{margin:.8rem 0;padding:.6rem .8rem;background:var(--card);border:1px solid var(--rule);
border-radius:6px}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;border-bottom:1px solid var(--rule);text-align:left;
vertical-align:top}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom}
.numbers td,.numbers thead th{text-align:right}
.numbers th:first-child{text-align:left}
.overview{width:100%;max-width:46rem}.overview tbody th{font-weight:normal}
.findings{padding-left:1.2rem;margin:.6rem 0 1rem}
.findings li{margin:.3rem 0}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem}
figure{margin:0;padding:.5rem;background:var(--card);border:1px solid var(--rule);
border-radius:6px}
sup,sub{line-height:0;font-size:.75em}
svg{display:block;width:100%;height:auto}
svg text{font:12px system-ui,sans-serif;fill:var(--soft)}
svg .grid{stroke:var(--rule);stroke-width:1}
svg line.mark{stroke:var(--soft);stroke-dasharray:4 3}
svg .fit{stroke:var(--fit);stroke-width:2.2}
svg circle{stroke:var(--ink);stroke-width:.8;fill-opacity:.9}
figcaption{padding:.2rem .3rem}
.key i{display:inline-block;width:7rem;height:.7rem;margin:0 .5rem;border-radius:3px}
.key span{white-space:nowrap}
.claims{width:100%}
.claims .part th{padding-top:1rem;color:var(--soft)}
.claims .sentence{display:block}
.verdicts span,dt span{display:inline-block;white-space:nowrap;font-weight:600;
margin-right:.6rem}
.certified{color:var(--good)}.supported{color:var(--fair)}.refuted{color:var(--bad)}
.not-measured{color:var(--soft)}
dd{margin:0 0 .6rem}
details{margin:1rem 0 0}
summary{cursor:pointer;color:var(--fair)}
@media (max-width:34rem){body{padding:1rem .75rem 3rem}h1{font-size:1.4rem}
th,td{padding:.35rem .3rem}
.claims thead{display:none}.claims tr{display:block;padding:.4rem 0;border-bottom:1px solid
var(--rule)}.claims td{display:inline-block;border:0;padding:.1rem .3rem}
.claims td:first-child{display:block}
.claims td:last-child::before{content:"least margin ";color:var(--soft);font-size:.8rem}
.claims .part th{border:0}.claims td small{display:inline;
margin-left:.5rem}.claims td:first-child small{display:block;margin:0}
.key i{width:3.5rem}}
"""
