"""Writes ../dashboards/*.json."""

from deploy.grafana.generator import written

for path, text in written().items():
    path.write_text(text, encoding="utf-8")
