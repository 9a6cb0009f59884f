"Correct schedulers of diffusers (told apart from their defaults)."

from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

trail = dict(timestep_spacing="trailing")
euler, ancestral, heun = (
    EulerDiscreteScheduler(**trail),
    EulerAncestralDiscreteScheduler(**trail),
    HeunDiscreteScheduler(**trail),
)
dpm, unipc = DPMSolverMultistepScheduler(**trail), UniPCMultistepScheduler(**trail)
dpm_sde = DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++", **trail)
dpm_float = DPMSolverMultistepScheduler(prediction_type="v_prediction", **trail)
