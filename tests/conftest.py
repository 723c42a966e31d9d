pytest_plugins = ["tests.support.databases"]
pytest_plugins += ["tests.support.hypothesis_profile"]
