"""An audit in words: a table, a verdict in sentences, and one page of HTML.

A sentence says what was measured, and right after it what does not follow from it.
"""

import base64
import html
import io
import math
from collections.abc import Iterable
from typing import Any

Audit = Any  # of `hesslab.audit`, which stands on this room
EigenPairs = Any  # of `hesslab.lanczos`, or None

VAGUE = 0.3  # a fraction known less well than that is left to the table
NEAR = 0.1  # a ratio within 1 ± NEAR is called close to the edge


def rows(audit: Audit) -> list[tuple[str, str]]:
    """What was found, line by line: name and value with its error."""
    found = [
        ("parameters", f"{audit.num_parameters:,}"),
        ("loss", f"{audit.loss:.6g}"),
        ("length of the gradient", f"{audit.gradient_norm:.3g}"),
    ]
    seen = audit.sharpness
    if seen is not None:
        half, mark = (seen.interval[1] - seen.interval[0]) / 2, "" if seen.converged else ", not converged"
        found += [
            (f"sharpness for {audit.optimizer}", f"{seen.value:.4g} ± {half:.1g}{mark}"),
            ("threshold", f"{seen.threshold:.4g}"),
            ("sharpness / threshold", f"{seen.ratio:.3f}"),
        ]
    if audit.critical is not None:
        found.append(("critical rate of one step", f"{audit.critical.low:.3g} to {audit.critical.high:.3g}"))
    found += [(name, _pair(pairs)) for name, pairs in (("λmax", audit.top), ("λmin", audit.bottom)) if pairs]
    for name, estimate in audit.sampled.items():
        found.append((f"{name}, error from the data", f"± {estimate.stderr:.2g}"))
    named = (("trace", audit.trace), ("fraction within ± λmax/100", audit.flat))
    for name, part in (*named, ("fraction below −λmax/100", audit.negative)):
        if part is not None:
            found.append((name, f"{part}"))
    for name, layer in audit.layers.items():
        text = f"λmax {_pair(layer.largest)}, trace {layer.trace}"
        found.append((f"layer {name} ({layer.num_parameters:,})", text))
    return [*found, ("products", f"{audit.num_matvecs} of {audit.budget}")]


def _known(pairs: EigenPairs) -> bool:
    return pairs is not None and len(pairs.values) > 0


def _pair(pairs: EigenPairs) -> str:
    if not _known(pairs):
        return "not known"
    half = (pairs.intervals[0, 1] - pairs.intervals[0, 0]) / 2
    mark = "" if pairs.converged[0] else ", not converged"
    return f"{pairs.values[0]:.4g} ± {half:.1g}{mark}"


def sentences(audit: Audit) -> list[str]:
    """The verdict."""
    said = (_edge, _one_step, _shape, _where, _largest_error)
    found = [sentence for part in said for sentence in part(audit)]
    return [*found, *audit.notes, _NOT_SAID]


_NOT_SAID = (
    "Nothing here says how well the model generalizes: rescaling the weights of a ReLU network changes "
    "these curvatures and not the function (Dinh et al. 2017)."
)


def _edge(audit: Audit) -> Iterable[str]:
    seen = audit.sharpness
    if seen is None:
        return
    if not math.isfinite(seen.threshold):
        yield "The learning rate is 0: every curvature is stable."
        return
    what = f"The sharpness is {seen.ratio:.3f} of the threshold of {audit.optimizer} at its present rate"
    near = abs(seen.ratio - 1) <= NEAR
    if audit.state == "unstable":
        yield (
            f"{what}, and beyond it: on the quadratic model the steps grow along at least one direction. "
            "Training may then swing at the edge, move to where the loss is flatter, or diverge; which, "
            "the Hessian at one point does not say."
        )
    elif audit.state == "stable":
        close = (
            "close below it: a little sharpening, or a little more rate, crosses it" if near else "below it"
        )
        yield (
            f"{what}, {close}: on the quadratic model no full-batch step overshoots by more each time. "
            "Sharpness often rises during training, so measure again later."
        )
        if seen.value <= 0:
            yield "No direction curves upwards here, so no rate overshoots; that is no sign of a minimum."
    elif not seen.converged:
        yield (
            f"{what}, but it has not converged: the largest eigenvalue may be larger. Give a larger budget."
        )
    else:
        yield f"{what}: too close for this error to tell the side, or larger ones were not looked for."
    yield (
        "The threshold is that of steps on all of these data, with the preconditioner held still; with small "
        "batches the noise makes steps unstable earlier."
    )


def _one_step(audit: Audit) -> Iterable[str]:
    rate = audit.critical
    if rate is None:
        return
    if rate.still:
        yield (
            "One more step leaves the loss as it is at every rate that was tried: the step is zero, as at a "
            "minimum and at a saddle, or the loss does not feel it."
        )
    elif rate.low == 0:
        yield f"One more step raises the loss at every rate that was tried, down to {rate.high:.1g}."
    elif not math.isfinite(rate.high):
        yield f"One more step lowers the loss at every rate that was tried, up to {rate.low:.1g}."
    else:
        side = "below" if rate.rate <= rate.low else "above" if rate.rate >= rate.high else "at"
        yield (
            f"One more step lowers the loss up to a rate between {rate.low:.3g} and {rate.high:.3g}; the "
            f"present one, {rate.rate:.3g}, is {side} that. One step is not many: a direction in which the "
            "gradient is still small needs several to show."
        )


def _shape(audit: Audit) -> Iterable[str]:
    if _known(audit.bottom) and _known(audit.top):
        low, high = float(audit.bottom.values[0]), float(audit.top.values[0])
        if audit.bottom.intervals[0, 1] < 0 < audit.top.intervals[0, 0]:
            yield (
                f"The Hessian is indefinite: λmin = {low:.2g} beside λmax = {high:.2g}. "
                "That is common during training and at its end, and no sign of trouble in itself."
            )
        elif audit.top.converged[0] and audit.top.intervals[0, 1] < 0:
            yield (
                f"The Hessian is negative definite: λmax = {high:.2g}. The loss falls away in every "
                "direction, as near a maximum and never at a minimum."
            )
    if audit.flat is not None:
        low, high = (min(max(x, 0.0), 1.0) for x in audit.flat.interval())
        if high - low > VAGUE or high < 0.5 / audit.num_parameters:  # less than one eigenvalue
            return
        yield (
            f"Between {100 * low:.3g} and {100 * high:.3g} % of the eigenvalues are within a hundredth of "
            "λmax from zero: there a condition number says nothing."
        )


def _where(audit: Audit) -> Iterable[str]:
    known = {name: layer for name, layer in audit.layers.items() if _known(layer.largest)}
    if len(known) < 2:
        return
    sharpest = max(known, key=lambda name: float(known[name].largest.values[0]))
    if not known[sharpest].largest.values[0] > 0:
        yield "No layer alone curves upwards. Blocks leave out what couples the layers."
        return
    traces = {name: float(layer.trace.value) for name, layer in known.items()}
    widest, total = max(traces, key=lambda name: traces[name]), sum(traces.values())
    share = f", {traces[widest] / total:.0%} of the sum" if min(traces.values()) >= 0 < total else ""
    yield (
        f"The sharpest layer is {sharpest}, with λmax {float(known[sharpest].largest.values[0]):.3g} alone; "
        f"the largest trace is that of {widest}{share}. Blocks leave out what couples the layers."
    )


def _largest_error(audit: Audit) -> Iterable[str]:
    drawn, top = audit.sampled.get("λmax"), audit.top
    if drawn is None or not _known(top) or not (drawn.value and drawn.stderr):
        return
    if not top.converged[0]:
        yield "λmax has not converged: it may be larger, and its error is not known. Give a larger budget."
        return
    solver = float(top.intervals[0, 1] - top.intervals[0, 0]) / 2
    relative = float(drawn.stderr) / abs(float(drawn.value))
    more = "more data, not more products, would" if drawn.stderr > solver else "more products would"
    yield (
        f"λmax has an error of {solver:.1g} from the solver and a standard error of {drawn.stderr:.1g} from "
        f"the choice of the examples ({relative:.0%}); {more} make it smaller. The second holds where these "
        "data are a sample of others, and to first order: a small sample also makes λmax too large."
    )


def page(audit: Audit, figures: Iterable[tuple[Any, str]] = ()) -> str:
    """One HTML page with everything inside it: no script, no other file, light and dark."""
    verdict = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences(audit))
    table = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in rows(audit)
    )
    drawn = "".join(_figure(figure, alt) for figure, alt in figures)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Hessian audit</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>Hessian audit</h1>{verdict}{drawn}"
        f"<table><caption>What was measured</caption>{table}</table></main></body></html>\n"
    )


def _figure(figure: Any, alt: str) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    data, text = base64.b64encode(buffer.getvalue()).decode(), html.escape(alt, quote=True)
    image = f'<img src="data:image/png;base64,{data}" alt="{text}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


_STYLE = (
    ":root{color-scheme:light dark}body{font:17px/1.5 system-ui,sans-serif;margin:0}"
    "main{max-width:46rem;margin:auto;padding:1rem}img{max-width:100%;background:#fff}figure{margin:1rem 0}"
    "figcaption{font-size:.85em}table{border-collapse:collapse;width:100%;font-size:.9em}"
    "caption{text-align:left;font-weight:bold}th,td{text-align:left;padding:.25em .5em;vertical-align:top;"
    "border-top:1px solid #8886}th{font-weight:normal}td{font-variant-numeric:tabular-nums}"
)
