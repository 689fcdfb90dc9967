"""What rlsp_tf is and what it needs."""

import runpy
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
# Folders beside rlsp_tf that are installed inside it, as links in rlsp_tf have it in a checkout.
BESIDE = {"rlsp_tf.checkpoints": "checkpoints", "rlsp_tf.converters": "converters"}

COMPLETION = [
    # Scripts for shells from parsers of argparse; 1.7 is the oldest in which that was tried.
    "shtab>=1.7",
]
LITERT = [
    # Runs LiteRT files, in the form in which TensorFlow no longer ships it.
    "ai-edge-litert>=2.0",
]
ONNX = [
    # The first with opset 21 and wheels for Python 3.13.
    "onnx>=1.17",
    "onnxruntime>=1.20",
]
RAY = [
    # Files in stores of objects; the store's own package, such as s3fs, is the user's choice.
    "fsspec>=2024.2",
    # Runs tasks on many machines, and starts them again where one dies.
    "ray>=2.40",
]
SERVE = [
    # Replicas, and sessions that find theirs; 2.60 is the oldest in which that was tried.
    "ray[serve]>=2.60",
    # How often each client asks; 5.0 is the oldest in which that was tried.
    "limits>=5.0",
    # The metrics.
    "prometheus_client>=0.20",
    # The application and its server, which Ray brings, too; below 1.0.1 Ray does not take the former, and
    # below 0.31 the latter does not know networks of proxies.
    "starlette>=1.0.1",
    "uvicorn>=0.31",
]
UI = [
    # The page; 6.0 is the first whose launch() takes the theme.
    "gradio>=6.0",
    # The folder for what people upload and order.
    "platformdirs>=4.0",
    # Its application, which Gradio brings, too; as for SERVE.
    "starlette>=1.0.1",
]
TEST = [
    *COMPLETION,
    *LITERT,
    *ONNX,
    *RAY,
    *SERVE,
    # The wheel and the source distribution.
    "build>=1.2",
    "hypothesis>=6.100",
    # The cell has to give the same numbers on a second Keras backend.
    "jax>=0.4.34",
    # Run the notebook of the documentation.
    "ipykernel>=6.29",
    "nbclient>=0.10",
    # A store of objects on this machine, and what speaks to it.
    "moto[server]>=5",
    # Checks the description of the server's API.
    "openapi-spec-validator>=0.7",
    "s3fs>=2024.2",
    "pytest>=8",
    # Asks the server for what its description promises; 4.32 is the oldest in which that was tried.
    "schemathesis>=4.32",
    # What rlsp benchmark capacity simulates with.
    "simpy>=4.1",
    # Opens the page of an evaluation in Chromium.
    "selenium>=4.20",
]

setup(
    name="rlsp_tf",
    version=runpy.run_path(str(ROOT / "rlsp_tf" / "_version.py"))["__version__"],
    description="Video super-resolution: RLSP (ICCV Workshops 2019) in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["video", "super-resolution", "upscaling", "recurrent neural network", "tensorflow", "keras"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    # The lower bounds were tried out together, by running the tests with just these versions.
    install_requires=[
        # Video files, with FFmpeg inside; 17.1 is the oldest in which all used of it works.
        "av>=17.1",
        # Keeps two runs from one output; 3.13 is the first that works on every Python here.
        "filelock>=3.13",
        # The arrays in .keras files; Keras and TensorFlow need it anyway, the latter from 3.11 on.
        "h5py>=3.11",
        # The frames that the demo writes.
        "imageio>=2.33",
        # The page of an evaluation: it escapes the names of files, which string.Template does not.
        "jinja2>=3.1",
        # The network; before 3.11, callbacks on JAX hear of the first of several steps instead of the last.
        "keras>=3.11",
        # The plots of that page; 3.10.7 is the first at peace with the pyparsing of today.
        "matplotlib>=3.10.7",
        # The order of numbered images; 8.4 is the oldest in which that was tried.
        "natsort>=8.4",
        "numpy>=1.26",
        # The camera that moves over photographs; scenedetect-headless needs it anyway.
        "opencv-python-headless>=4.8",
        # Image files, and text in the demo's scene; 10.1 is the first whose built-in font comes in any size.
        "pillow>=10.1",
        # How much memory is free, and how much a process has used.
        "psutil>=5.9",
        # Downloads of weights; TensorFlow needs it anyway.
        "requests>=2.31",
        # Scene cuts; the variant that runs where there is no display.
        "scenedetect-headless>=0.7",
        # SSIM.
        "scikit-image>=0.22",
        # The Gaussian of the degradation.
        "scipy>=1.12",
        # The backend; 2.18 is the first that works with NumPy 2.
        "tensorflow>=2.18",
        # Progress bars.
        "tqdm>=4.60",
    ],
    extras_require={
        # Contenders of rlsp benchmark step, each of which is left out if it is not installed. OpenVINO 2024.4
        # is the first that works with NumPy 2; for PyTorch see below. SimPy for rlsp benchmark capacity.
        "benchmark": [*LITERT, *ONNX, "openvino>=2024.4", "simpy>=4.1", "torch>=2.10"],
        # OpenVINO in 8 bits there; apart, because it brings scikit-learn and more for one contender.
        "benchmark-int8": ["nncf>=3.4"],
        "completion": COMPLETION,
        "litert": LITERT,
        "onnx": ONNX,
        # The authors' PyTorch checkpoints; before 2.10, a file could run code though only data was asked for
        # (CVE-2025-32434, CVE-2026-24747).
        "pytorch": [
            "torch>=2.10",
            # Weights in that format, which PyTorch itself does not read; 0.5 is the first with NumPy 2.
            "safetensors>=0.5",
            # bfloat16 in NumPy; Keras needs it anyway.
            "ml_dtypes>=0.4",
        ],
        "ray": RAY,
        # rlsp serve.
        "serve": SERVE,
        "test": TEST,
        # rlsp ui.
        "ui": UI,
        "dev": [
            *TEST,
            *("mypy>=1.11", "pre-commit>=3.5", "ruff>=0.9"),
            # Runs tests in two processes; 3.7 is the first that can keep modules in order.
            "pytest-xdist>=3.7",
            *("scipy-stubs", "types-psutil", "types-tqdm"),
        ],
    },
    packages=[*find_packages(include=["rlsp_tf", "rlsp_tf.*"], exclude=[*BESIDE]), *BESIDE],
    package_dir=BESIDE,
    package_data={
        "": ["*.html", "*.css"],
        "rlsp_tf": ["py.typed"],
        "rlsp_tf.checkpoints": ["*.keras", "manifest.json", "README.md"],
    },
    entry_points={
        "console_scripts": ["rlsp = rlsp_tf.cli.main:main", "rlsp-convert = rlsp_tf.converters.cli:main"]
    },
)
