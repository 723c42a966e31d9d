"""Writes ../base/rules.yaml and ../base/dashboards.yaml."""

from deploy.kubernetes.generator import written

for path, text in written().items():
    path.write_text(text, encoding="utf-8")
