"""Plotly's bundle, cut: on a made-up one of the same form, and on the one that is installed."""

import plotly.offline

from protos.support.plots.bundle import TESTED, cut

HEAD = f'/**\n{TESTED}*/\n"use strict";var Plotly=(()=>{{var W=e=>e;'
CORE = (
    "var co=W(e=>{e.plot=help();e.map&&style()});var help=W((e,t)=>{t.exports=1});var unused=W((e,t)=>{t.exports=2});"
)
MAP = "var style=W(()=>{'.maplibregl-map{font:9px}'});"
BAR = 'var bar=W((e,t)=>{t.exports=barIs()});var barIs=W((e,t)=>{t.exports={moduleType:"trace",name:"bar"}});'
PIE = 'var pie=W((e,t)=>{t.exports=pieIs()});var pieIs=W((e,t)=>{t.exports={moduleType:"trace",name:"pie",d:far()}});'
FAR = "var far=W(e=>{e.far=3});"
END = "var all=W((e,t)=>{var c=co();c.register([bar(),pie()]);t.exports=c});return all();})();\n/* licenses */\n"
BUNDLE = HEAD + ";" + "W(e=>{});" + CORE + MAP + BAR + PIE + FAR + END


def test_kinds_of_traces_that_no_page_has_go_with_all_that_only_they_need() -> None:
    shorter = cut(BUNDLE)
    assert "c.register([bar()])" in shorter
    words = ("help=", "barIs=", "licenses", "pieIs", "far=", "unused=", "style=")
    assert [word for word in words if word in shorter] == ["help=", "barIs=", "licenses"]


def test_a_bundle_of_another_version_stays_whole() -> None:
    other = BUNDLE.replace(TESTED, "* plotly.js v9.0.0\n")
    assert cut(other) == other


def test_the_installed_bundle_is_the_tested_one_and_a_quarter_is_left_of_it() -> None:
    whole = plotly.offline.get_plotlyjs()
    assert TESTED in whole[:200]
    assert len(cut(whole)) < 0.25 * len(whole)
