"""The keys of `train.optimizer`, `train.schedule` and `train.soup`: how the weights are found; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from textune.config.section import Kept, Section
from textune.config.values import DottedPath, Duration


class Rates(Section):
    """Learning rates that differ between parts of a model; the schedule multiplies all of them."""

    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The rate of a layer is that of the layer above times this; embeddings have the lowest. 1: all layers alike."""
    head_lr: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of the head; by default `lr`."""


class AdamW(Rates):
    """AdamW; biases and norms are not decayed."""

    kind: Literal["adamw"] = "adamw"
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay per step, times the learning rate; not on biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the running mean of the gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


class AdamW8bit(AdamW):
    """AdamW that keeps its two moments in 8 bits, a quarter of the optimizer's memory; the other keys are those of
    `adamw`.

    Needs bitsandbytes (`pip install "textune[8bit]"`) or torchao. Steps are slightly less exact, and slower on a CPU.
    """

    kind: Literal["adamw_8bit"] = "adamw_8bit"  # type: ignore[assignment]
    """Quantised block by block (arXiv:2110.02861)."""


class Adafactor(Rates):
    """Adafactor, which keeps a number for each row and column of a matrix instead of two moments; biases and norms are
    not decayed."""

    kind: Literal["adafactor"] = "adafactor"
    """transformers' Adafactor (arXiv:1804.04235) with the rate of the schedule."""
    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decay per step, times the learning rate; not on biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of the running mean of the update, which takes 4 bytes for each number; by default there is none."""
    decay_rate: Annotated[float, Field(le=0)] = -0.8
    """The running mean of the squared gradient decays by 1 - step ^ `decay_rate`."""
    clip_threshold: Annotated[float, Field(gt=0)] = 1.0
    """The update of a weight is scaled down to this root mean square."""
    scale_parameter: bool = False
    """Multiply the rate by the root mean square of the weight, which is small: an `lr` of 1e-3 to 1e-2 is then
    usual."""
    eps1: Annotated[float, Field(gt=0)] = 1e-30
    """Added to the squared gradient."""
    eps2: Annotated[float, Field(gt=0)] = 1e-3
    """Smallest factor of `scale_parameter`."""


class Sgd(Rates):
    """Stochastic gradient descent; biases and norms are not decayed."""

    kind: Literal["sgd"] = "sgd"
    """PyTorch's SGD."""
    lr: Annotated[float, Field(gt=0)] = 1e-2
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Times the weight, added to the gradient; not for biases and norms."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the running sum of gradients; 0 keeps no state."""
    nesterov: bool = False
    """Look ahead along the running sum; needs `momentum`."""


class Lion(Rates):
    """Lion: steps of equal size by the sign of a running mean; biases and norms are not decayed."""

    kind: Literal["lion"] = "lion"
    """arXiv:2302.06675. It needs a third to a tenth of AdamW's rate, and three to ten times the decay."""
    lr: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decay per step, times the learning rate; not on biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Share of the running mean in the direction of a step."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the running mean of the gradient."""


class ScheduleFree(Rates):
    """AdamW without a schedule: it trains at one point, and evaluates and saves another, a running mean. It needs the
    schedule `constant`, whose warm-up it uses; biases and norms are not decayed."""

    kind: Literal["schedule_free"] = "schedule_free"
    """AdamWScheduleFree (arXiv:2405.15682)."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """Learning rate after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay per step, times the learning rate; not on biases and norms."""
    beta1: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """How near the mean the gradient is taken."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


class Muon(Rates):
    """Muon for the matrices of adapters, which it needs (`[model.lora]`), and AdamW for whatever else is trained: the
    head, biases and norms, of which only matrices are decayed."""

    kind: Literal["muon"] = "muon"
    """PyTorch's Muon: the update of a matrix is made nearly orthogonal, and as large as one of AdamW
    (arXiv:2502.16982)."""
    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Peak learning rate, of both."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay per step, times the learning rate; not on biases and norms."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.95
    """Decay of Muon's running mean of the gradient."""
    nesterov: bool = True
    """Look ahead along that mean."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's decay of the running mean of the gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's decay of the running mean of the squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to AdamW's denominator."""


class PythonOptimizer(Rates):
    """Your own class, or any other of PyTorch's: a `torch.optim.Optimizer`. It gets groups of parameters with `lr` and
    `weight_decay`; biases and norms are not decayed."""

    kind: Literal["python"] = "python"
    """A class of your own."""
    object: DottedPath
    """`package.module:Class`, such as `torch.optim:RMSprop`; what such a class must have: docs/extending.md."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class, beside `lr`."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """The `weight_decay` of the class, not for biases and norms; 0 also where the class has another default."""


Optimizer = Annotated[
    AdamW | AdamW8bit | Adafactor | Sgd | Lion | ScheduleFree | Muon | PythonOptimizer,
    Field(discriminator="kind"),
]


class WarmedUp(Section):
    """The learning rate as a pure function of the step: a warm-up, then a shape."""

    warmup: Annotated[Duration, Kept()] = Duration(0.1, "epochs")
    """Linear rise from zero to the peak, such as `"6 %"` of the run."""


class LinearSchedule(WarmedUp):
    """After the warm-up, a line from the peak to zero at the end of the run."""

    kind: Literal["linear"] = "linear"
    """The rate falls by the same amount in every step."""


class CosineSchedule(WarmedUp):
    """After the warm-up, half a cosine from the peak to zero at the end of the run."""

    kind: Literal["cosine"] = "cosine"
    """The rate falls slowly at first and at the end (arXiv:1608.03983)."""


class RestartedCosineSchedule(WarmedUp):
    """After the warm-up, several half cosines from the peak to zero, one after the other (arXiv:1608.03983)."""

    kind: Literal["cosine_with_restarts"] = "cosine_with_restarts"
    """Each restart is hard: from zero to the peak in one step."""
    num_cycles: Annotated[PositiveInt, Field(examples=[3])]
    """How often the rate falls to zero, in equal parts of the steps after the warm-up."""


class PolynomialSchedule(WarmedUp):
    """After the warm-up, `lr_end` + (`lr` - `lr_end`) x (share of the steps that is left) ^ `power`."""

    kind: Literal["polynomial"] = "polynomial"
    """A power of the share of the run that is left."""
    power: Annotated[float, Field(gt=0, examples=[2.0])]
    """1 is a line; the higher, the sooner the rate falls."""
    lr_end: Annotated[float, Field(ge=0)] = 0.0
    """The rate at the end of the run; below `train.optimizer.lr`."""


class ConstantSchedule(WarmedUp):
    """After the warm-up, the peak to the end; `warmup = "0 steps"` begins there."""

    kind: Literal["constant"] = "constant"
    """The rate stays at the peak."""


class WarmedUpConstantSchedule(WarmedUp):
    """`constant`, by the name that transformers gives a constant rate with a warm-up."""

    kind: Literal["constant_with_warmup"] = "constant_with_warmup"
    """The same rates as `constant`."""


class InverseRootSchedule(WarmedUp):
    """After the warm-up, `lr` / sqrt(1 + (steps since then) / `timescale`), wherever the run ends."""

    kind: Literal["inverse_sqrt"] = "inverse_sqrt"
    """The rate keeps falling, ever more slowly."""
    timescale: PositiveInt | None = None
    """Steps after which the rate is `lr` / sqrt(2); by default as many as the warm-up has, or 10000 without one."""


Schedule = Annotated[
    LinearSchedule
    | CosineSchedule
    | RestartedCosineSchedule
    | PolynomialSchedule
    | ConstantSchedule
    | WarmedUpConstantSchedule
    | InverseRootSchedule,
    Field(discriminator="kind"),
]


class EarlyStopping(Section):
    """Stop when the best metric no longer improves."""

    patience: Annotated[int, Field(ge=0)] = 0
    """Evaluations without improvement before training stops; 0 never stops early."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change that counts as an improvement."""


class Soup(Section):
    """Train several times from the same weights, with the rows in another order and other dropout, and keep one model
    whose weights are a mean of those (Wortsman et al. 2022, arXiv:2203.05482)."""

    seeds: Annotated[int, Field(ge=1)] = 3
    """How many runs: with `train.order_seed`, or else `train.seed`, and the numbers that follow it. 1: a single run,
    as without this table."""
    kind: Literal["greedy", "uniform"] = "greedy"
    """Whose weights are averaged. `greedy`: those of the best run, and of each other one, from the best down, that
    does not make the main metric on the rows of `evaluate.best_by` worse. `uniform`: those of all runs; where that is
    worse there than the best run, the model is that of the best run."""
