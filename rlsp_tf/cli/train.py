"""``rlsp train``."""

import argparse
import os

from rlsp_tf.cli.common import add_command, add_degradation, start_tensorflow


def add_train(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds ``rlsp train``."""
    parser = add_command(
        commands,
        "train",
        _train,
        help="train a network from folders of videos",
        description="""\
Trains RLSP. DATA are folders, searched with their subfolders for video files and folders of images.
Clips are decoded and blurred once and kept in a cache, 6 bytes per pixel. RUN gets the log (log.csv),
the best weights (best.keras, averaged, for rlsp upscale) and what is needed to go on after any
interruption, kill -9 too: the same command with --resume.

  rlsp train --data clips/ --out runs/7-48 --network 7-48
  rlsp train --data clips/ --out runs/7-48 --network 7-48 --resume --minutes 30
  rlsp train --data clips/ --out runs/tuned --init 7-48 --learning-rate 1e-4 --steps 5000
  rlsp train --data clips/ --photos photographs/ --degradation video --paper-share 0.3 --out runs/video

Photographs, of any size, become clips under a camera that moves over them; being sharp, they teach detail
that videos do not have. samples.png in RUN shows what the training is given.

KERAS_BACKEND=jax rlsp train ... trains on JAX, where TensorFlow need not be installed. Several machines
train together when each is told so by Keras's own variables; docs/scale.md has an example:

  export KERAS_BACKEND=jax KERAS_DISTRIBUTION_JOB_ADDRESSES=first.machine:9000
  export KERAS_DISTRIBUTION_NUM_PROCESSES=2 KERAS_DISTRIBUTION_PROCESS_ID=0    # 1 on the other one
  rlsp train --data clips/ --out runs/7-48 --resume""",
    )
    parser.add_argument("--data", nargs="+", required=True, metavar="DATA", help="folders of clips, or clips")
    parser.add_argument("--photos", nargs="+", default=[], metavar="DIR", help="folders of photographs")
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run")
    parser.add_argument(
        "--network", metavar="L-F", help="layers-filters, such as 7-64 (default: that of --init, or 7-48)"
    )
    parser.add_argument(
        "--output",
        choices=("y", "rgb"),
        help="luma as in the paper, or colour (default: that of --init, or y)",
    )
    parser.add_argument(
        "--init",
        metavar="FILE",
        help="begin with the weights of a .keras file, or with those that come with rlsp, by name; they may "
        "have fewer filters than --network",
    )
    parser.add_argument(
        "--photo-share",
        type=float,
        metavar="SHARE",
        help="of the samples, how many are made of photographs (default: 0.7 with --photos, otherwise 0)",
    )
    parser.add_argument(
        "--flat-share",
        type=float,
        metavar="SHARE",
        help="how many are black, of one colour, behind letterbox bars, or text that scrolls (default: 0.03 "
        "with --photos, otherwise 0)",
    )
    add_degradation(parser)
    parser.add_argument(
        "--paper-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="how many samples are degraded as in the paper nevertheless (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=int, default=100_000, help="length of the training (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=8, help="samples per step (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=7, help="frames per sample (default: %(default)s)")
    parser.add_argument(
        "--pieces",
        type=int,
        default=1,
        help="samples that follow each other in a sequence: the state is carried from one to the next, "
        "gradients are not (default: %(default)s)",
    )
    parser.add_argument(
        "--curriculum",
        type=int,
        default=0,
        metavar="STEPS",
        help="begin with stills that pan at one velocity, and let motion become what it is in clips over "
        "STEPS (default: %(default)s): how to fuse frames is learned many times sooner",
    )
    parser.add_argument(
        "--crop",
        type=int,
        default=32,
        help="side of a sample in low-resolution pixels (default: %(default)s)",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=1e-3, help="the largest (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=("bfloat16", "float32"),
        default="bfloat16",
        help="of the convolutions; the rest is float32 always (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and samples (default: %(default)s)")
    parser.add_argument(
        "--halve",
        choices=("auto", "always", "never"),
        default="auto",
        help="reduce frames to half their size before use, which removes what compression did to them; "
        "auto: where their format is lossy (default)",
    )
    parser.add_argument(
        "--val", nargs="+", metavar="NAME", help="clips to validate on instead (default: every fifth)"
    )
    parser.add_argument(
        "--every",
        type=int,
        default=1000,
        help="steps between validations and checkpoints (default: %(default)s)",
    )
    parser.add_argument("--minutes", type=float, help="stop after this time, with everything saved")
    parser.add_argument("--cache", metavar="DIR", help="for prepared clips (default: ~/.cache/rlsp_tf)")
    parser.add_argument(
        "--resume", action="store_true", help="go on with RUN, or begin it if it is not there"
    )


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
    group = join_group()  # before --init is read, since that computes
    from rlsp_tf.training.clips.mixture import Mixture
    from rlsp_tf.training.train import TrainingOptions, network_of, train

    photos = bool(arguments.photos)
    mixture = Mixture(
        photo_share=0.7 * photos if arguments.photo_share is None else arguments.photo_share,
        flat_share=0.03 * photos if arguments.flat_share is None else arguments.flat_share,
        degradation=arguments.degradation,
        paper_share=arguments.paper_share,
    )
    result = train(
        arguments.data,
        arguments.out,
        TrainingOptions(
            network=network_of(arguments.network, arguments.output, arguments.init),
            batch=arguments.batch,
            frames=arguments.frames,
            pieces=arguments.pieces,
            curriculum=arguments.curriculum,
            crop=arguments.crop,
            steps=arguments.steps,
            learning_rate=arguments.learning_rate,
            precision=arguments.precision,
            seed=arguments.seed,
            halve=arguments.halve,
            held_out=None if arguments.val is None else tuple(arguments.val),
            init=arguments.init,
            every=arguments.every,
            mixture=mixture,
        ),
        photographs=arguments.photos,
        cache=arguments.cache,
        minutes=arguments.minutes,
        resume=arguments.resume,
        progress=True,
        group=group,
    )
    best = (
        ""
        if result["best_psnr"] is None
        else f"; best validation {result['best_psnr']:.3f} dB: {result['best']}"
    )
    print(f"{arguments.out}: step {result['step']} of {result['steps']}{best}")
    if result["averaged"] is not None:
        print(f"weights averaged over the last steps: {result['averaged']}")
