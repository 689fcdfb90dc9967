"""The network of the authors' PyTorch checkpoints, in PyTorch and float64, and such checkpoints.

Without TensorFlow, beside which ``torch.optim`` crashes.
"""

from pathlib import Path

import numpy as np
import torch

from rlsp_tf.network.config import RLSPConfig


class Authors(torch.nn.Module):
    """The network of such a checkpoint: weights under the authors' names, equations from the paper.

    RGB of 0..255 comes in and goes out; the output of the step before is folded again for every step.
    """

    def __init__(self, config: RLSPConfig):
        super().__init__()
        self.config = config
        filters, both = config.filters, 3 * config.scale**2 + config.hidden_channels
        self.conv1 = torch.nn.Conv2d(9 + both, filters, 3, padding=1)
        middle = (torch.nn.Conv2d(filters, filters, 3, padding=1) for _ in range(config.layers - 2))
        self.conv_list = torch.nn.ModuleList(middle)
        self.conv_out = torch.nn.Conv2d(filters, both, 3, padding=1)

    def forward(self, clip):
        """``(B, T, 3, H, W)`` -> ``(B, T, 3, scale*H, scale*W)``; edge frames are their own neighbours."""
        s, length = self.config.scale, clip.shape[1]
        batch, _, _, height, width = clip.shape
        hidden = clip.new_zeros(batch, self.config.hidden_channels, height, width)
        output = clip.new_zeros(batch, 3, s * height, s * width)
        outputs = []
        for t in range(length):
            before, now, after = clip[:, max(t - 1, 0)], clip[:, t], clip[:, min(t + 1, length - 1)]
            folded = [output[..., dy::s, dx::s] for dy in range(s) for dx in range(s)]
            features = torch.cat([before, now, after, *folded, hidden], 1)
            for layer in (self.conv1, *self.conv_list):
                features = layer(features).clamp(min=0)
            features = self.conv_out(features)
            hidden = features[:, 3 * s * s :].clamp(min=0)
            output = torch.empty_like(output)
            for k in range(s * s):
                output[..., k // s :: s, k % s :: s] = features[:, 3 * k : 3 * k + 3] + now
            outputs.append(output)
        return torch.stack(outputs, 1)

    def upscale(self, clip: np.ndarray) -> np.ndarray:
        """``(B, T, H, W, 3)`` -> ``(B, T, scale*H, scale*W, 3)``, computed in float64."""
        moved = torch.from_numpy(np.moveaxis(clip, -1, 2).astype(np.float64))
        with torch.no_grad():
            output = self.double()(moved).numpy()
        self.float()
        return np.moveaxis(output, 2, -1)


def authors(rng: np.random.Generator, config: RLSPConfig) -> Authors:
    """One with random weights that keep a signal of 0..255 at about that size."""
    network = Authors(config)
    with torch.no_grad():
        for weight in network.parameters():
            spread = 1.3 / np.sqrt(np.prod(weight.shape[1:])) if weight.ndim == 4 else 2.0
            weight.copy_(torch.from_numpy(rng.normal(0, spread, weight.shape)))
    return network


def save(path: Path, network: Authors) -> Path:
    """As the authors' training does it, with the moments that Adam keeps of every weight."""
    weights = list(network.parameters())
    step = torch.tensor(1.0)
    moments = {
        index: {"step": step, "exp_avg": torch.zeros_like(weight), "exp_avg_sq": torch.ones_like(weight)}
        for index, weight in enumerate(weights)
    }
    groups = [{"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0, "amsgrad": False}]
    groups[0]["params"] = list(moments)
    optimizer = {"state": moments, "param_groups": groups}
    torch.save({"rlsp": network.state_dict(), "optimizer": optimizer, "iteration": 1}, path)
    return path


def train_on(path: str, config: RLSPConfig) -> dict[str, torch.Tensor]:
    """What one step adds to each weight, after a checkpoint is restored as the authors' training does it."""
    checkpoint = torch.load(path)
    network = Authors(config)
    optimizer = torch.optim.Adam(network.parameters(), lr=1)
    network.load_state_dict(checkpoint["rlsp"], strict=True)
    optimizer.load_state_dict(checkpoint["optimizer"])
    network(torch.rand(1, 2, 3, 4, 4)).mean().backward()
    optimizer.step()
    return {name: weight - checkpoint["rlsp"][name] for name, weight in network.state_dict().items()}
