"""Options of diffusers' schedulers, drawn at random: one function for each family, for record.py."""

import math

SPACINGS = ["linspace", "leading", "trailing"]
PREDICTIONS = ["epsilon", "epsilon", "v_prediction", "sample"]
PLAIN = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
VP = ["linear", "scaled_linear", "scaled_linear", "squaredcos_cap_v2"]


def number(rng, low, high):
    """Few digits, so that a manifest has all of it."""
    return float(f"{rng.uniform(low, high):.4g}")


def chain(rng, schedules=VP, zero_snr=False, trained=True):
    steps = rng.choice([1000, 1000, 1000, 1000, 500, 100, 40])
    schedule = rng.choice(schedules)
    low, high = {"scaled_linear": (0.00085, 0.012), "exp": (0.00085, 0.012)}.get(schedule, (0.0001, 0.02))
    scale = 1000 / steps
    options = {"num_train_timesteps": steps, "beta_schedule": schedule}
    options["beta_start"] = float(f"{low * scale * rng.choice([1.0, number(rng, 0.5, 2.0)]):.4g}")
    options["beta_end"] = min(0.7, float(f"{high * scale * rng.choice([1.0, number(rng, 0.6, 1.5)]):.4g}"))
    if trained and steps <= 100 and rng.random() < 0.3:
        ends = (0.01, 0.3) if steps == 40 else (0.001, 0.15)
        options["trained_betas"] = [float(f"{ends[0] + (ends[1] - ends[0]) * i / (steps - 1):.6g}") for i in range(steps)]
    if zero_snr and rng.random() < 0.2:
        options["rescale_betas_zero_snr"] = True
    return options


def spacing(rng):
    return {"timestep_spacing": rng.choice(SPACINGS), "steps_offset": rng.choice([0, 0, 1])}


def clipping(rng, keys=("clip_sample", "thresholding")):
    kind = rng.choice(["none", "none", *keys])
    options = {"clip_sample": False} if "clip_sample" in keys else {}
    if kind == "clip_sample":
        options |= {"clip_sample": True, "clip_sample_range": rng.choice([1.0, number(rng, 0.5, 3.0)])}
    if kind == "thresholding":
        options |= {"thresholding": True, "dynamic_thresholding_ratio": number(rng, 0.8, 0.999)}
        options["sample_max_value"] = rng.choice([1.0, number(rng, 1.0, 2.0)])
    return options


def converted(rng, *more):
    """At most one way to choose sigmas."""
    key = rng.choice([None, None, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", *more])
    return {key: True} if key else {}


def steps(rng, most=60):
    """A number of steps: small ones most of all."""
    low, high = rng.choices([(1, 3), (4, 12), (13, 60)], weights=[2, 6, 2])[0]
    return max(1, min(rng.randint(low, high), most))


def falling(rng, count, most):
    """Whole timesteps that fall."""
    return sorted(rng.sample(range(most), min(count, most)), reverse=True)


def done(options, given, arguments=None):
    return {"options": options, "set_timesteps": given, "step_kwargs": arguments or {}}


def by_count(rng, options, custom=0.15, plain=PLAIN):
    """A number of steps, or timesteps of one's own where no sigmas are converted."""
    count = steps(rng, options.get("num_train_timesteps", 1000))
    if rng.random() < custom and not any(options.get(key) for key in plain):
        return {"timesteps": falling(rng, count, options["num_train_timesteps"])}
    return {"num_inference_steps": count}


def ddpm(rng):
    options = chain(rng, [*VP, "sigmoid"], zero_snr=True) | spacing(rng) | clipping(rng)
    options["prediction_type"] = rng.choice(PREDICTIONS)
    options["variance_type"] = rng.choice(
        ["fixed_small", "fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned", "learned_range"]
    )
    return done(options, by_count(rng, options))


def ddim(rng):
    options = chain(rng, zero_snr=True) | spacing(rng) | clipping(rng)
    options |= {"prediction_type": rng.choice(PREDICTIONS), "set_alpha_to_one": rng.random() < 0.5}
    arguments = {"eta": rng.choice([0.0, 1.0, number(rng, 0.0, 1.0)])} if rng.random() < 0.6 else {}
    if rng.random() < 0.25:
        arguments["use_clipped_model_output"] = True
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])}, arguments)


def ddim_inverse(rng):
    options = chain(rng, zero_snr=True) | clipping(rng, ("clip_sample",))
    options |= {"timestep_spacing": rng.choice(["leading", "trailing"]), "steps_offset": rng.choice([0, 1])}
    options |= {"prediction_type": rng.choice(PREDICTIONS), "set_alpha_to_one": rng.random() < 0.5}
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def consistent(rng, with_eta):
    options = chain(rng, ["scaled_linear", "linear", "squaredcos_cap_v2"], zero_snr=True, trained=False) | clipping(rng)
    options |= {"prediction_type": rng.choice(PREDICTIONS), "set_alpha_to_one": rng.random() < 0.7}
    train = options["num_train_timesteps"]
    original = rng.choice([50, 50, 25, 100]) if train >= 100 else 20
    options |= {"original_inference_steps": original, "timestep_scaling": rng.choice([10.0, number(rng, 2.0, 20.0)])}
    given = {"num_inference_steps": min(steps(rng), original)}
    if rng.random() < 0.3:
        of_call = rng.choice([10, 20]) if train < 100 else rng.choice([30, 50, 100])
        given = {"num_inference_steps": min(given["num_inference_steps"], of_call), "original_inference_steps": of_call}
    elif rng.random() < 0.25:
        # Those that a student was trained on.
        every = train // original
        listed = [every * (i + 1) - 1 for i in range(original)]
        given = {"timesteps": sorted(rng.sample(listed, min(steps(rng, 12), original)), reverse=True)}
    return done(options, given, {"eta": rng.choice([0.0, 0.3, 1.0, number(rng, 0.0, 1.0)])} if with_eta else {})


def cm(rng):
    options = {"num_train_timesteps": rng.choice([40, 40, 18, 150]), "rho": rng.choice([7.0, number(rng, 3.0, 9.0)])}
    options |= {"sigma_min": rng.choice([0.002, number(rng, 0.001, 0.05)]), "sigma_max": rng.choice([80.0, number(rng, 10.0, 200.0)])}
    options |= {"sigma_data": rng.choice([0.5, number(rng, 0.3, 1.0)]), "clip_denoised": rng.random() < 0.5}
    options["s_noise"] = rng.choice([1.0, number(rng, 0.9, 1.1)])
    return done(options, by_count(rng, options, custom=0.3))


def scm(rng):
    options = {"sigma_data": rng.choice([0.5, number(rng, 0.3, 1.0)])}
    given = {"num_inference_steps": steps(rng)}
    if given["num_inference_steps"] != 2 or rng.random() < 0.5:
        given["intermediate_timesteps"] = None
    if rng.random() < 0.4:
        given["max_timesteps"] = number(rng, 1.4, 1.57)
    if rng.random() < 0.2:
        given = {"num_inference_steps": 3, "intermediate_timesteps": None, "timesteps": [1.55, 1.1, number(rng, 0.3, 1.0), 0.0]}
    return done(options, given)


def multistep(rng):
    options = chain(rng, zero_snr=True) | spacing(rng) | converted(rng, "use_lu_lambdas", "use_flow_sigmas") | clipping(rng, ("thresholding",))
    options |= lambdas(rng)
    options |= {"euler_at_final": rng.random() < 0.2, "lower_order_final": rng.random() < 0.7}
    return shifted(rng, options, by_count(rng, options, plain=PLAIN))


def lambdas(rng):
    options = {"solver_order": rng.choice([1, 2, 2, 3]), "prediction_type": rng.choice(PREDICTIONS)}
    options["algorithm_type"] = rng.choice(["dpmsolver++", "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"])
    options["solver_type"] = rng.choice(["midpoint", "heun"])
    options["final_sigmas_type"] = rng.choice(["zero", "sigma_min"]) if "++" in options["algorithm_type"] else "sigma_min"
    if rng.random() < 0.2:
        options["lambda_min_clipped"] = number(rng, -6.0, -3.0)
    return options


def shifted(rng, options, given, arguments=None):
    """What a flow has beside: its prediction, and shifts."""
    if options.get("use_flow_sigmas"):
        options |= {"prediction_type": "flow_prediction", "flow_shift": rng.choice([1.0, number(rng, 0.5, 5.0)])}
        if rng.random() < 0.3 and "thresholding" not in options:
            options |= {"use_dynamic_shifting": True, "time_shift_type": rng.choice(["exponential", "linear"])}
            given = given | {"mu": number(rng, 0.3, 2.0)}
    return done(options, given, arguments)


def singlestep(rng):
    options = chain(rng) | converted(rng, "use_flow_sigmas") | clipping(rng, ("thresholding",)) | lambdas(rng)
    options["algorithm_type"] = rng.choice(["dpmsolver++", "dpmsolver++", "dpmsolver", "sde-dpmsolver++"])
    if options["algorithm_type"] == "dpmsolver":
        options["final_sigmas_type"] = "sigma_min"
    options["lower_order_final"] = rng.random() < 0.7 or options["final_sigmas_type"] == "zero"
    return shifted(rng, options, by_count(rng, options, plain=PLAIN))


def inverse(rng):
    options = chain(rng) | spacing(rng) | converted(rng) | clipping(rng, ("thresholding",)) | lambdas(rng)
    options |= {"euler_at_final": rng.random() < 0.2, "lower_order_final": rng.random() < 0.7}
    del options["final_sigmas_type"]
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def unipc(rng):
    options = chain(rng, zero_snr=True) | spacing(rng) | converted(rng, "use_flow_sigmas", "use_flow_sigmas") | clipping(rng, ("thresholding",))
    options |= {"solver_order": rng.choice([1, 2, 2, 3, 4]), "prediction_type": rng.choice(PREDICTIONS)}
    options |= {"predict_x0": rng.random() < 0.7, "solver_type": rng.choice(["bh1", "bh2", "bh2"])}
    options |= {"lower_order_final": rng.random() < 0.7, "final_sigmas_type": rng.choice(["zero", "sigma_min"])}
    if rng.random() < 0.25:
        options["disable_corrector"] = sorted(rng.sample(range(6), rng.randint(1, 3)))
    if options["solver_type"] == "bh1" and rng.random() < 0.7:
        options["final_sigmas_type"] = "sigma_min"
    if any(options.get(key) for key in PLAIN[:2]) and rng.random() < 0.3:
        options |= {"sigma_min": number(rng, 0.01, 0.1), "sigma_max": number(rng, 10.0, 100.0)}
    if options.get("use_flow_sigmas") and rng.random() < 0.2:
        options["shift_terminal"] = number(rng, 0.02, 0.2)
    return shifted(rng, options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def deis(rng):
    options = chain(rng) | spacing(rng) | converted(rng, "use_flow_sigmas") | clipping(rng, ("thresholding",))
    options |= {"solver_order": rng.choice([1, 2, 2, 3]), "prediction_type": rng.choice(PREDICTIONS)}
    options["lower_order_final"] = rng.random() < 0.7
    return shifted(rng, options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def sa(rng):
    options = chain(rng) | spacing(rng) | converted(rng, "use_flow_sigmas") | clipping(rng, ("thresholding",))
    options |= {"predictor_order": rng.choice([1, 2, 2, 3]), "corrector_order": rng.choice([1, 2, 2, 3, 4])}
    options |= {"prediction_type": rng.choice(PREDICTIONS), "lower_order_final": rng.random() < 0.7}
    options["algorithm_type"] = rng.choice(["data_prediction", "data_prediction", "noise_prediction"])
    if options.get("use_flow_sigmas"):
        options |= {"prediction_type": "flow_prediction", "flow_shift": rng.choice([1.0, number(rng, 0.5, 5.0)])}
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def churn(rng, most):
    if rng.random() < 0.6:
        return {}
    arguments = {"s_churn": number(rng, 0.5, 20.0), "s_noise": rng.choice([1.0, number(rng, 0.98, 1.02)])}
    if rng.random() < 0.6:
        arguments |= {"s_tmin": number(rng, 0.0, 0.2 * most), "s_tmax": number(rng, 0.5 * most, 2.0 * most)}
    return arguments


def euler(rng):
    options = chain(rng, zero_snr=True) | spacing(rng) | converted(rng)
    options["prediction_type"] = rng.choice(PREDICTIONS)
    options |= {"final_sigmas_type": rng.choice(["zero", "zero", "sigma_min"])}
    given = by_count(rng, options)
    if options.get("use_karras_sigmas") and rng.random() < 0.4:
        options |= {"sigma_min": number(rng, 0.002, 0.1), "sigma_max": number(rng, 10.0, 300.0)}
        if rng.random() < 0.5:
            options |= {"timestep_type": "continuous", "prediction_type": "v_prediction"}
    elif not any(options.get(key) for key in PLAIN) and "timesteps" not in given:
        options["interpolation_type"] = rng.choice(["linear", "linear", "log_linear"])
        if rng.random() < 0.2:
            sigmas = sorted([number(rng, 0.05, 12.0) for _ in range(steps(rng))], reverse=True)
            given = {"sigmas": [*sigmas, 0.0]}
    return done(options, given, churn(rng, 5.0))


def ancestral(rng):
    options = chain(rng, zero_snr=True) | spacing(rng) | {"prediction_type": rng.choice(["epsilon", "v_prediction"])}
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def heun(rng):
    options = chain(rng, [*VP, "exp"]) | spacing(rng) | converted(rng) | clipping(rng, ("clip_sample",))
    options["prediction_type"] = rng.choice(PREDICTIONS)
    return done(options, by_count(rng, options))


def kdpm(rng):
    options = chain(rng) | spacing(rng) | converted(rng) | {"prediction_type": rng.choice(["epsilon", "v_prediction"])}
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def sde(rng):
    drawn = kdpm(rng)
    return drawn | {"step_kwargs": {"s_noise": number(rng, 0.5, 1.1)} if rng.random() < 0.3 else {}}


def lms(rng):
    drawn = kdpm(rng)
    return drawn | {"step_kwargs": {"order": rng.randint(1, 4)} if rng.random() < 0.5 else {}}


def pndm(rng):
    options = chain(rng) | spacing(rng) | {"prediction_type": rng.choice(["epsilon", "v_prediction"])}
    options |= {"skip_prk_steps": rng.random() < 0.6, "set_alpha_to_one": rng.random() < 0.5}
    return done(options, {"num_inference_steps": steps(rng, options["num_train_timesteps"])})


def ipndm(rng):
    return done({"num_train_timesteps": rng.choice([1000, 500])}, {"num_inference_steps": steps(rng)})


def unclip(rng):
    options = {"num_train_timesteps": rng.choice([1000, 1000, 500, 100]), "variance_type": rng.choice(["fixed_small_log", "learned_range"])}
    options |= {"clip_sample": rng.random() < 0.5, "clip_sample_range": number(rng, 0.8, 10.0)}
    options["prediction_type"] = rng.choice(["epsilon", "sample"])
    return done(options, {"num_inference_steps": max(2, steps(rng, options["num_train_timesteps"]))})


def elucidated(rng):
    options = {"sigma_min": rng.choice([0.002, number(rng, 0.001, 0.1)]), "sigma_max": rng.choice([80.0, number(rng, 10.0, 300.0)])}
    options |= {"sigma_data": rng.choice([0.5, number(rng, 0.3, 1.5)]), "sigma_schedule": rng.choice(["karras", "exponential"])}
    options |= {"rho": rng.choice([7.0, number(rng, 3.0, 9.0)]), "prediction_type": rng.choice(["epsilon", "v_prediction"])}
    return options | {"final_sigmas_type": rng.choice(["zero", "zero", "sigma_min"])}


def edm_euler(rng):
    return done(elucidated(rng), {"num_inference_steps": steps(rng)}, churn(rng, 40.0))


def edm_multistep(rng):
    options = elucidated(rng) | clipping(rng, ("thresholding",))
    options |= {"solver_order": rng.choice([1, 2, 2, 3]), "solver_type": rng.choice(["midpoint", "heun"])}
    options |= {"algorithm_type": rng.choice(["dpmsolver++", "sde-dpmsolver++"]), "euler_at_final": rng.random() < 0.2}
    return done(options | {"lower_order_final": rng.random() < 0.7}, {"num_inference_steps": steps(rng)})


def cosine(rng):
    options = elucidated(rng) | {"sigma_min": number(rng, 0.1, 0.5), "sigma_max": rng.choice([500, number(rng, 50.0, 500.0)])}
    options |= {"solver_order": rng.choice([1, 2, 2]), "solver_type": rng.choice(["midpoint", "heun"])}
    options |= {"lower_order_final": rng.random() < 0.7, "euler_at_final": rng.random() < 0.2}
    return done(options, {"num_inference_steps": steps(rng)})


def flow(rng):
    options = {"num_train_timesteps": rng.choice([1000, 1000, 500]), "shift": rng.choice([1.0, 3.0, number(rng, 0.5, 6.0)])}
    options |= converted(rng)
    given = {"num_inference_steps": steps(rng)}
    if rng.random() < 0.2:
        options["shift_terminal"] = number(rng, 0.02, 0.2)
    if rng.random() < 0.3:
        options |= {"use_dynamic_shifting": True, "time_shift_type": rng.choice(["exponential", "linear"])}
        given["mu"] = number(rng, 0.3, 2.0)
    if rng.random() < 0.25:
        sigmas = sorted([number(rng, 0.02, 1.0) for _ in range(steps(rng, 12))], reverse=True)
        given = {key: value for key, value in given.items() if key == "mu"} | {"sigmas": sigmas}
        if rng.random() < 0.3:
            given["timesteps"] = [float(f"{1000 * sigma:.5g}") for sigma in sigmas]
    return options, given


def flow_euler(rng):
    options, given = flow(rng)
    kind = rng.choice([None, None, None, "invert_sigmas", "stochastic_sampling"])
    return done(options | ({kind: True} if kind else {}), given)


def flow_lcm(rng):
    return done(*flow(rng))


def flow_heun(rng):
    options = {"num_train_timesteps": 1000, "shift": rng.choice([1.0, number(rng, 0.5, 6.0)])}
    return done(options, {"num_inference_steps": max(2, steps(rng))}, churn(rng, 0.4))


CLASSES = {
    "DDPMScheduler": ddpm,
    "DDIMScheduler": ddim,
    "DDIMInverseScheduler": ddim_inverse,
    "LCMScheduler": lambda rng: consistent(rng, False),
    "TCDScheduler": lambda rng: consistent(rng, True),
    "CMStochasticIterativeScheduler": cm,
    "SCMScheduler": scm,
    "PNDMScheduler": pndm,
    "IPNDMScheduler": ipndm,
    "UnCLIPScheduler": unclip,
    "EulerDiscreteScheduler": euler,
    "EulerAncestralDiscreteScheduler": ancestral,
    "HeunDiscreteScheduler": heun,
    "LMSDiscreteScheduler": lms,
    "KDPM2DiscreteScheduler": kdpm,
    "KDPM2AncestralDiscreteScheduler": kdpm,
    "DPMSolverSDEScheduler": sde,
    "DPMSolverMultistepScheduler": multistep,
    "DPMSolverMultistepInverseScheduler": inverse,
    "DPMSolverSinglestepScheduler": singlestep,
    "UniPCMultistepScheduler": unipc,
    "DEISMultistepScheduler": deis,
    "SASolverScheduler": sa,
    "EDMEulerScheduler": edm_euler,
    "EDMDPMSolverMultistepScheduler": edm_multistep,
    "CosineDPMSolverMultistepScheduler": cosine,
    "FlowMatchEulerDiscreteScheduler": flow_euler,
    "FlowMatchHeunDiscreteScheduler": flow_heun,
    "FlowMatchLCMScheduler": flow_lcm,
}

# Where image-to-image begins: two calls a step in methods of two stages; no such thing where it is an order of the list.
TWO_CALLS = ("Heun", "KDPM2", "DPMSolverSDE", "FlowMatchHeun")
FROM_THE_START = ("DDIMInverse", "DPMSolverMultistepInverse", "PNDM", "SCM", "CMStochastic", "UnCLIP", "IPNDM")


def draw(name, rng):
    """The options of a case: configuration, arguments of `set_timesteps` and `step`, where it begins, and the model."""
    case = CLASSES[name](rng)
    given = case["set_timesteps"]
    listed = given.get("timesteps") or given.get("sigmas")
    count = given.get("num_inference_steps") or len(listed)
    case |= {"begin_index": None, "shape": [2, 2, 3, 4]}
    if rng.random() < 0.2 and count > 2 and not name.startswith(FROM_THE_START):
        case["begin_index"] = rng.randint(1, count - 2) * (2 if name.startswith(TWO_CALLS) else 1)
    sine = {"kind": "sin", "a": number(rng, 0.5, 2.0), "b": number(rng, 0.0, 4.0), "c": number(rng, 0.3, 1.0), "d": number(rng, 0.0, 0.3)}
    only = name.startswith(("CMStochastic", "SCM"))
    case["model"] = sine if only or rng.random() < 0.4 else {"kind": "gmm"}
    assert not any(isinstance(value, float) and math.isnan(value) for value in case["options"].values())
    return case
