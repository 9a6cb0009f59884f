"Many threads may sample from one network: each gets the images it would have got alone, and the network ends in the mode it had."
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from ddpm_lesson.asking import eval_mode
from ddpm_lesson.data import Images, bundled_fashion
from ddpm_lesson.engine.distributed import training_flops
from ddpm_lesson.engine.run import Run, fit, make_card
from ddpm_lesson.guidance import Labelled
from ddpm_lesson.loss import PredictsV
from ddpm_lesson.metrics import lite0_judge
from ddpm_lesson.pretrained import load_card
from ddpm_lesson.sampler import ddim_sample, ddpm_sample
from ddpm_lesson.schedule import linear_schedule
from ddpm_lesson.train import Recipe
from ddpm_lesson.unet import UNet

SCHED, SHAPE, THREADS = linear_schedule(50), (2, 1, 8, 8), 8


def network():
    "In training mode, with dropout that shows, one part frozen in eval mode."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = UNet(width=8, mults=(1, 2), blocks=1, classes=3, dropout=0.5)
        for p in net.parameters(): torch.nn.init.normal_(p, std=0.2)
    net.mid[0].eval()
    return PredictsV(net, SCHED)


def modes(model): return [m.training for m in model.modules()]


def at_once(jobs):
    "Run functions in as many threads, all let go at the same moment; their results, or the error of the first that failed."
    gate = threading.Barrier(len(jobs))
    with ThreadPoolExecutor(len(jobs)) as pool: return [f.result(300) for f in [pool.submit(lambda job=job: (gate.wait(60), job())[1]) for job in jobs]]


@pytest.mark.parametrize('sampler', [lambda *a, **k: ddim_sample(*a, eta=0.5, **k), ddpm_sample], ids=['ddim', 'ddpm'])
def test_threads_draw_what_each_would_draw_alone(sampler, record):
    model = network()
    before = modes(model)
    # of different length, so that they end one after the other; each through a wrapper of its own around the same network
    jobs = [lambda k=k: sampler(Labelled(model, torch.full((2,), k % 3)), SCHED, SHAPE, steps=2 + 2*k, seeds=[10*k, 10*k + 1]) for k in range(THREADS)]
    alone = [job() for job in jobs]
    together = [at_once(jobs) for _ in range(2)]
    assert modes(model) == before and not model.net.mid[0].training and model.training
    lost = sum(not torch.allclose(a, b, rtol=0, atol=1e-5) for images in together for a, b in zip(alone, images))
    record('Threads that sample from one network draw the images they would draw alone', 2*THREADS, lost)
    assert not lost
    model.train()
    with torch.inference_mode(): first, second = (model(alone[0], 20) for _ in range(2))
    assert not torch.allclose(first, second, atol=1e-2)  # dropout would have shown


class Slow(torch.nn.Module):
    "A network that the sampler 'short' enters first and leaves while 'long' is half-way; it notes its mode when a call begins and when it ends."
    def __init__(self):
        super().__init__()
        self.drop, self.scale = torch.nn.Dropout(0.5), torch.nn.Parameter(torch.ones(()))
        self.events, self.seen = {k: threading.Event() for k in ('short is in', 'long is in', 'short is done')}, {'long': [], 'short': []}

    def wait(self, event): assert self.events[event].wait(120), event

    def forward(self, x_t, t):
        me = threading.current_thread().name
        note = lambda: self.seen[me].append(self.training or self.drop.training)
        note()
        self.events[f'{me} is in'].set()
        if me == 'short': self.wait('long is in')
        if me == 'long' and len(self.seen[me]) == 5: self.wait('short is done')  # in its third call
        note()
        return self.drop(self.scale*x_t)


@pytest.mark.parametrize('fails', [False, True], ids=['ends', 'fails'])
def test_a_sampler_that_ends_leaves_the_others_in_eval_mode(fails):
    net, errors = Slow().train(), []

    def short():
        try: ddim_sample(net, SCHED, SHAPE, steps=2, x_T=torch.full(SHAPE, 3e38) if fails else None)
        except ValueError as error: errors.append(str(error))
        finally: net.events['short is done'].set()

    def long():
        net.wait('short is in')
        ddim_sample(net, SCHED, SHAPE, steps=6, seeds=[0, 1])

    threads = [threading.Thread(name=f.__name__, target=f) for f in (short, long)]
    for thread in threads: thread.start()
    for thread in threads: thread.join(300)
    assert ['NaN' in e for e in errors] == [True]*fails
    assert net.seen == {'long': [False]*12, 'short': [False]*4}
    assert net.training and net.drop.training


def test_the_last_to_leave_puts_the_mode_back():
    "The same in one thread, where no chance takes part: one use of a network ends inside another."
    net = torch.nn.Sequential(torch.nn.Dropout(0.3)).train()
    with eval_mode(net):
        with eval_mode(net): assert not net[0].training
        assert not net.training and not net[0].training
    assert net.training and net[0].training


# Training

DATA = Images(bundled_fashion().pixels[:32, :, ::4, ::4].contiguous(), name='small')
NETWORKS = {'unet': dict(channels=1, width=8, mults=[1], patch=1, blocks=1, attend=[0], dropout=0.3), 'posit_unet': dict(kind='posit_unet', channels=1, width=8, mults=[1, 2], depth=1)}
NETWORKS['simple'] = dict(kind='simple', channels=1)
NETWORKS['dit'] = dict(kind='dit', channels=1, width=8, layers=1, heads=2, patch=1)


def trained(seed, network='unet', steps=2):
    "The state of a short training, which depends on the seed alone."
    return fit(Run(make_card(NETWORKS[network], Recipe(steps=steps, batch=8, precision='float32', seed=seed)), DATA), progress=False).state()


def alike(a, b): return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_threads_train_what_each_would_train_alone(record):
    "Wrong program: one that seeds the stream of random numbers which all threads share, for the weights or for dropout."
    alone, over = [trained(k) for k in range(4)], threading.Event()
    def disturb():
        while not over.is_set(): Run(make_card(NETWORKS['unet'], Recipe(batch=8, precision='float32')), DATA)
    other = threading.Thread(target=disturb)
    other.start()
    try: found = at_once([lambda k=k: trained(k) for k in range(4)])
    finally: over.set(), other.join()
    lost = sum(not alike(a, b) for a, b in zip(alone, found))
    record('Runs that are trained in threads are those that each thread would train alone', 4, lost)
    assert not lost


@pytest.mark.parametrize('network', NETWORKS)
def test_fresh_weights_come_from_no_shared_stream(network):
    "Every random number of every kind of network: the stream of the process stays where it was, and does not matter."
    torch.manual_seed(3)
    before, first = torch.get_rng_state(), Run(make_card(NETWORKS[network], Recipe(batch=8)), DATA).state()
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(4)
    assert alike(first, Run(make_card(NETWORKS[network], Recipe(batch=8)), DATA).state())


def test_what_only_measures_draws_none_of_the_callers_numbers():
    "Wrong program: a judge or a count of operations that builds its network from the caller's stream."
    before = torch.get_rng_state()
    lite0_judge(), training_flops(load_card('fashion'))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_callers_defaults_are_left_and_do_not_matter(tmp_path):
    "Wrong program: a tensor made where, or as what, the caller happens to make them."
    wanted = trained(0)
    for inside in torch.device('meta'), torch.inference_mode(), torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        with inside: assert alike(trained(0), wanted)
    torch.set_default_dtype(torch.float64)
    try:
        assert all(alike(found, wanted) for found in at_once([lambda: trained(0)]*4)) and torch.get_default_dtype() == torch.float64
        with torch.device('meta'):
            run = Run(make_card(NETWORKS['unet'], Recipe(steps=2, batch=8, precision='float32', seed=0)), DATA)
            run.save(tmp_path/'c.safetensors')
            assert alike(fit(run.load(tmp_path/'c.safetensors'), progress=False).state(), wanted)
    finally: torch.set_default_dtype(torch.float32)
