"""``rlsp train``."""

import argparse
import os
from dataclasses import fields

from rlsp_tf.cli.common import add_command, add_degradation, number, start_tensorflow
from rlsp_tf.cli.summary import add_quiet


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp train``."""
    parser = add_command(
        commands,
        "train",
        _train,
        help="train a network from folders of videos",
        description="""\
Trains RLSP on the clips in DATA: video files and folders of images. Clips are decoded and blurred once and
kept in a cache, which takes 6 bytes per pixel. The folder RUN gets the log (log.csv), the best weights
(best.keras, for rlsp upscale) and a checkpoint (last.keras). After an interruption of any kind, the same
command with --resume continues the training.

  rlsp train --data clips/ --out runs/7-48 --network 7-48
  rlsp train --data clips/ --out runs/7-48 --network 7-48 --resume --minutes 30
  rlsp train --data clips/ --out runs/tuned --init 7-48 --learning-rate 1e-4 --steps 5000
  rlsp train --data clips/ --photos photographs/ --degradation video --paper-share 0.3 --out runs/video

A virtual camera that moves over photographs turns them into clips, which are sharper than videos. The
picture samples.png in RUN shows samples of all kinds.

KERAS_BACKEND=jax rlsp train ... trains with JAX, and then TensorFlow need not be installed. To train on
several machines, set these variables on each of them; docs/scale.md has an example:

  export KERAS_BACKEND=jax KERAS_DISTRIBUTION_JOB_ADDRESSES=first.machine:9000
  export KERAS_DISTRIBUTION_NUM_PROCESSES=2 KERAS_DISTRIBUTION_PROCESS_ID=0    # 1 on the other one
  rlsp train --data clips/ --out runs/7-48 --resume""",
    )
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DATA",
        help="clips, or folders that are searched for clips with all their subfolders",
    )
    parser.add_argument(
        "--photos", nargs="+", default=[], metavar="DIR", help="folders of photographs of any size"
    )
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--network",
        metavar="L-F",
        help="layers and filters, such as 7-64 (default: those of --init, otherwise 7-48)",
    )
    parser.add_argument(
        "--output",
        choices=("y", "rgb"),
        help="output luma, as in the paper, or RGB (default: as --init does, otherwise y)",
    )
    parser.add_argument(
        "--init",
        metavar="MODEL",
        help="start from the weights of a .keras file, or from weights that come with rlsp, by name; their "
        "network may have fewer filters than --network (default: random weights)",
    )
    parser.add_argument(
        "--photo-share",
        type=float,
        metavar="SHARE",
        help="share of samples made from photographs, 0 to 1 (default: 0.7 with --photos, otherwise 0)",
    )
    parser.add_argument(
        "--flat-share",
        type=float,
        metavar="SHARE",
        help="share of samples with plain colours, gradients, letterbox bars or scrolling text, 0 to 1 "
        "(default: 0.03 with --photos, otherwise 0)",
    )
    add_degradation(parser)
    parser.add_argument(
        "--paper-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of samples that are degraded as in the paper instead, 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=100_000, help="steps of the whole training (default: %(default)s)"
    )
    parser.add_argument(
        "--batch",
        type=int,
        default=8,
        help="samples per step; on two cores, 2 learn more in the same time at first (default: %(default)s)",
    )
    parser.add_argument(
        "--reuse",
        type=int,
        default=1,
        metavar="STEPS",
        help="keep samples in the memory of an accelerator and use each in so many steps, turned in ever new "
        "ways, because it is faster than the processors that make them; JAX only (default: %(default)s)",
    )
    parser.add_argument("--frames", type=int, default=7, help="frames per sample (default: %(default)s)")
    parser.add_argument(
        "--pieces",
        type=int,
        default=1,
        help="successive samples per sequence; the state is carried from one to the next, gradients are not "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--curriculum",
        type=int,
        default=0,
        metavar="STEPS",
        help="start with stills that pan at one velocity, and reach the motion of the clips after STEPS; "
        "the network learns much sooner to fuse frames (default: %(default)s)",
    )
    parser.add_argument(
        "--crop",
        type=int,
        default=32,
        help="height and width of a sample in low-resolution pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, help="largest learning rate (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "bfloat16", "float32"),
        default="auto",
        help="precision of the convolutions; everything else is float32; auto is bfloat16 where this machine "
        "computes in it, and float32 elsewhere (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of initial weights and samples (default: %(default)s)"
    )
    parser.add_argument(
        "--halve",
        choices=("auto", "always", "never"),
        default="auto",
        help="reduce frames to half their size, which removes artefacts of compression; auto does this for "
        "lossy formats (default: %(default)s)",
    )
    parser.add_argument(
        "--val",
        nargs="+",
        dest="held_out",
        metavar="NAME",
        help="names of the clips to validate on (default: every fifth)",
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1000,
        metavar="STEPS",
        help="steps between validations, each with a checkpoint (default: %(default)s)",
    )
    parser.add_argument(
        "--minutes",
        type=number(),
        help="save everything and stop after this time (default: no limit)",
    )
    parser.add_argument(
        "--cache", metavar="DIR", help="folder for prepared clips (default: ~/.cache/rlsp_tf)"
    )
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN, if there is one")
    add_quiet(parser)


def _train(arguments: argparse.Namespace) -> None:
    from rlsp_tf.training.workers.join import workers_named

    if workers_named() == 1:
        _train_here(arguments)
        return
    from rlsp_tf.training.workers.guard import guarded

    guarded(lambda: _train_here(arguments), debug=arguments.debug)


def _train_here(arguments: argparse.Namespace) -> None:
    from rlsp_tf.training.cpu import prepare_training
    from rlsp_tf.training.workers.join import join_group

    if os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
        prepare_training(arguments.batch)
        start_tensorflow()
    group = join_group()  # has to come before anything is computed, such as the weights of --init
    from rlsp_tf.inference.hardware import training_precision
    from rlsp_tf.training.clips.mixture import Mixture
    from rlsp_tf.training.options import TrainingOptions, network_of
    from rlsp_tf.training.train import train

    chosen = {
        field.name: getattr(arguments, field.name)
        for field in fields(TrainingOptions)
        if field.name in arguments
    }
    photos = bool(arguments.photos)
    chosen["mixture"] = Mixture(
        photo_share=0.7 * photos if arguments.photo_share is None else arguments.photo_share,
        flat_share=0.03 * photos if arguments.flat_share is None else arguments.flat_share,
        degradation=arguments.degradation,
        paper_share=arguments.paper_share,
    )
    chosen["network"] = network_of(arguments.network, arguments.output, arguments.init)
    if arguments.precision == "auto":
        chosen["precision"] = training_precision()
    result = train(
        arguments.data,
        arguments.out,
        TrainingOptions(**chosen),
        photographs=arguments.photos,
        cache=arguments.cache,
        minutes=arguments.minutes,
        resume=arguments.resume,
        progress=not arguments.quiet,
        group=group,
    )
    best = ""
    if result["best_psnr"] is not None:
        best = f"; best validation {result['best_psnr']:.3f} dB: {result['best']}"
    print(f"{arguments.out}: step {result['step']} of {result['steps']}{best}")
    if result["averaged"] is not None:
        print(f"weights averaged over the last steps: {result['averaged']}")
