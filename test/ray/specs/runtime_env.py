"""Uses each kind of runtime environment that needs no download: variables, a folder, modules, and pip with a local wheel."""

import pathlib
import tempfile
import zipfile

import ray

folder = pathlib.Path(tempfile.mkdtemp())
(folder / "data").mkdir()
(folder / "data" / "greeting.txt").write_text("from the working directory")
module = folder / "raytls_module"
module.mkdir()
(module / "__init__.py").write_text("GREETING = 'from a module'\n")
ray.init(
    address="auto",
    logging_level="ERROR",
    runtime_env={"env_vars": {"GREETING": "from a variable"}, "working_dir": str(folder / "data"), "py_modules": [str(module)]},
)


@ray.remote(num_cpus=0.5)
def read():
    import os

    import raytls_module

    return os.environ["GREETING"], pathlib.Path("greeting.txt").read_text(), raytls_module.GREETING


got = ray.get(read.remote(), timeout=180)
assert got == ("from a variable", "from the working directory", "from a module"), got


@ray.remote(num_cpus=0.5)
def write_wheel():
    """Writes a wheel, which is an archive with three files of metadata, where pip on this node finds it."""
    path = "/tmp/raytls_wheel-1.0-py3-none-any.whl"
    info = "raytls_wheel-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("raytls_wheel.py", "GREETING = 'from a wheel'\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: raytls-wheel\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@ray.remote(num_cpus=0.5)
def read_wheel():
    import raytls_wheel

    return raytls_wheel.GREETING


node = next(n["NodeID"] for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU"))
here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
path = ray.get(write_wheel.options(scheduling_strategy=here).remote(), timeout=120)
with_pip = {"pip": {"packages": [path], "pip_install_options": ["--no-index", "--no-deps"], "pip_check": False}}
got = ray.get(read_wheel.options(scheduling_strategy=here, runtime_env=with_pip).remote(), timeout=300)
assert got == "from a wheel", got
print("ok: runtime environments worked")
