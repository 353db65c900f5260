"""Metrics over HTTP, as Prometheus fetches them."""

from __future__ import annotations

import httpx
import pytest

from zk0_proofs.errors import ConfigError
from zk0_proofs.metrics import AggregatorMetrics, Metrics, serve_metrics


def test_metrics_are_served_until_closed() -> None:
    metrics = Metrics(collect=True)
    AggregatorMetrics(metrics).connected(5)
    server = serve_metrics(metrics, 0)
    address = f"http://127.0.0.1:{server.port}/metrics"
    answer = httpx.get(address, trust_env=False)
    assert "zk0_aggregator_connected_nodes 5.0" in answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    with pytest.raises(ConfigError, match="choose another port"):
        serve_metrics(metrics, server.port)
    server.close()
    with pytest.raises(httpx.ConnectError):
        httpx.get(address, trust_env=False)
