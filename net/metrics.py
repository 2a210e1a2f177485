"""Metrics: plain Python numbers on the hot path, prometheus text only when somebody scrapes.

A counter is one addition in a dictionary, a histogram one bisection; nothing of ``prometheus_client`` runs
until ``render``. What a member already counts for itself (its term, its commit index) need not be counted
twice: ``add_source`` registers a function that is asked at each scrape.

``metric_names.DEFINITIONS`` gives known metrics their help text, kind and buckets, under etcd's names; a
metric that is not listed there works, too, with default buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from .metric_names import ALWAYS, DEFINITIONS, SECONDS

__all__ = ["CONTENT_TYPE", "Counts", "Gathered", "Metrics", "Sample", "Source"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels: TypeAlias = tuple[tuple[str, str], ...]

class Sample(msgspec.Struct, frozen=True):
    """One value that a source gives at a scrape."""

    metric: str
    value: float
    labels: Labels = ()


class Counts(msgspec.Struct, frozen=True):
    """A whole histogram that a source gives at a scrape."""

    metric: str
    counts: tuple[int, ...]  # by bucket of the definition, not cumulative; the last one is beyond all
    total: float  # sum of the values
    labels: Labels = ()


Source: TypeAlias = Callable[[], Iterable[Sample | Counts]]


class _Histogram:
    """Counts per bucket (not cumulative), with the sum of all samples."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @classmethod
    def of(cls, given: Counts) -> _Histogram:
        found = cls(DEFINITIONS[given.metric].buckets)
        found.counts, found.total = list(given.counts), given.total
        return found

    def copy(self) -> _Histogram:
        found = _Histogram(self.bounds)
        found.counts, found.total = list(self.counts), self.total
        return found

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        rows: list[tuple[str, float]] = []
        running = 0
        for bound, count in zip((*self.bounds, None), self.counts, strict=True):
            running += count
            rows.append(("+Inf" if bound is None else repr(bound), running))
        return rows


def _key(labels: Mapping[str, str]) -> Labels:
    return tuple(sorted(labels.items())) if labels else ()


class Metrics:
    """All metrics of one member; ``registry`` is for collectors of the process's own."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, float]] = {}
        self._gauges: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, _Histogram]] = {}
        self._sources: list[Source] = []
        self.registry = CollectorRegistry(auto_describe=False)

    def count(self, metric: str, amount: float = 1.0, labels: Mapping[str, str] | None = None) -> None:
        """Add ``amount`` >= 0 to a counter."""
        series = self._counters.get(metric)
        if series is None:
            series = self._counters[metric] = {}
        key = _key(labels) if labels else ()
        series[key] = series.get(key, 0.0) + amount

    def gauge(self, metric: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Set a gauge."""
        self._gauges.setdefault(metric, {})[_key(labels) if labels else ()] = value

    def observe(self, metric: str, value: float, labels: Mapping[str, str] | None = None) -> None:
        """Add one sample to a histogram, in the metric's own unit."""
        series = self._histograms.setdefault(metric, {})
        key = _key(labels) if labels else ()
        histogram = series.get(key)
        if histogram is None:
            known = DEFINITIONS.get(metric)
            histogram = series[key] = _Histogram(known.buckets if known else SECONDS)
        histogram.observe(value)

    def add_source(self, source: Source) -> None:
        """Ask ``source`` for samples at every scrape; its kinds come from ``DEFINITIONS`` (else gauge)."""
        self._sources.append(source)

    def value(self, metric: str, **labels: str) -> float:
        """The present value of a counter or gauge; 0 when it has never been touched."""
        key = _key(labels)
        for table in (self._counters, self._gauges):
            if metric in table and key in table[metric]:
                return table[metric][key]
        return 0.0

    def gather(self) -> Gathered:
        """All values as they are now; quick, and to be called where the numbers change."""
        simple: dict[str, dict[Labels, float]] = {name: dict(series) for name, series in self._gauges.items()}
        simple.update({name: dict(series) for name, series in self._counters.items()})
        histograms = {
            name: {labels: histogram.copy() for labels, histogram in series.items()}
            for name, series in self._histograms.items()
        }
        for source in self._sources:
            for sample in source():
                if isinstance(sample, Counts):
                    histograms.setdefault(sample.metric, {})[sample.labels] = _Histogram.of(sample)
                else:
                    simple.setdefault(sample.metric, {})[sample.labels] = sample.value
        return Gathered(simple, histograms, frozenset(self._counters))

    def render(self, gathered: Gathered | None = None) -> bytes:
        """All metrics in the prometheus text format (``CONTENT_TYPE``).

        The library's writer adds "_total" to every counter's name; those that etcd named otherwise go through
        it as gauges, and get their kind back here. That takes tens of milliseconds, so with ``gathered`` it
        may be called in a thread.
        """
        registry = CollectorRegistry(auto_describe=False)
        registry.register(gathered or self.gather())
        text = generate_latest(registry) + generate_latest(self.registry)
        for name, known in DEFINITIONS.items():
            if known.kind == "counter" and not name.endswith("_total"):
                line = f"# TYPE {name} "
                text = text.replace(f"{line}gauge\n".encode(), f"{line}counter\n".encode())
        return text


class Gathered(Collector):
    """The values of one moment."""

    def __init__(
        self,
        simple: dict[str, dict[Labels, float]],
        histograms: dict[str, dict[Labels, _Histogram]],
        counters: frozenset[str],
    ) -> None:
        self._simple = simple
        self._histograms = histograms
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Give every metric as prometheus_client's families, sorted by name."""
        simple, histograms = self._simple, self._histograms
        for name in sorted(ALWAYS):
            known = DEFINITIONS[name]
            if known.kind == "histogram":
                histograms.setdefault(name, {(): _Histogram(known.buckets)})
            else:
                simple.setdefault(name, {(): 0.0})
        for name in sorted({**simple, **histograms}):
            if name in histograms:
                yield _histogram_family(name, histograms[name])
            else:
                yield _simple_family(name, simple[name], counted=name in self._counters)


def _simple_family(name: str, series: Mapping[Labels, float], *, counted: bool) -> Metric:
    known = DEFINITIONS.get(name)
    text = known.help if known else name
    kind = known.kind if known else ("counter" if counted else "gauge")
    label_names = _label_names(series)
    family: CounterMetricFamily | GaugeMetricFamily
    if kind == "counter" and (known is None or name.endswith("_total")):
        family = CounterMetricFamily(name, text, labels=label_names)
    else:
        family = GaugeMetricFamily(name, text, labels=label_names)
    for labels in sorted(series):
        found = dict(labels)
        family.add_metric([found.get(label, "") for label in label_names], series[labels])
    return family


def _histogram_family(name: str, series: Mapping[Labels, _Histogram]) -> Metric:
    known = DEFINITIONS.get(name)
    label_names = _label_names(series)
    family = HistogramMetricFamily(name, known.help if known else name, labels=label_names)
    for labels in sorted(series):
        found = dict(labels)
        values = [found.get(label, "") for label in label_names]
        family.add_metric(values, series[labels].cumulative(), series[labels].total)
    return family


def _label_names(series: Mapping[Labels, object]) -> list[str]:
    """The names of all labels of a metric, in order."""
    names: dict[str, None] = {}
    for labels in series:
        for name, _ in labels:
            names[name] = None
    return sorted(names)
