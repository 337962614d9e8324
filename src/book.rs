//! The programs of the book, compiled and run as doctests: one item for each chapter that has some.

#[doc = include_str!("../docs/introduction.md")]
struct Introduction;

#[doc = include_str!("../docs/getting-started.md")]
struct GettingStarted;

#[doc = include_str!("../docs/concepts.md")]
struct Concepts;

#[doc = include_str!("../docs/solvers.md")]
struct Solvers;

#[doc = include_str!("../docs/flows.md")]
struct Flows;

#[doc = include_str!("../docs/tokens.md")]
struct Tokens;

#[doc = include_str!("../docs/guidance.md")]
struct Guidance;

#[doc = include_str!("../docs/names.md")]
struct Names;

#[doc = include_str!("../docs/inverse-problems.md")]
struct InverseProblems;

#[doc = include_str!("../docs/data.md")]
struct Data;

#[doc = include_str!("../docs/likelihood.md")]
struct Likelihood;

#[doc = include_str!("../docs/backends.md")]
struct Backends;

#[doc = include_str!("../docs/own-networks.md")]
struct OwnNetworks;

#[doc = include_str!("../docs/errors.md")]
struct Errors;

#[doc = include_str!("../docs/from-diffusers.md")]
struct FromDiffusers;

#[doc = include_str!("../docs/from-k-diffusion.md")]
struct FromKDiffusion;

#[doc = include_str!("../docs/models/autoencoders.md")]
struct Autoencoders;

#[doc = include_str!("../docs/models/edm2.md")]
struct Edm2;

#[doc = include_str!("../docs/models/unet2d.md")]
struct Unet2d;

#[doc = include_str!("../docs/models/unet-1d.md")]
struct Unet1d;

#[doc = include_str!("../docs/models/unet-conditional.md")]
struct UnetConditional;

#[doc = include_str!("../docs/models/control.md")]
struct Control;

#[doc = include_str!("../docs/models/video.md")]
struct Video;

#[doc = include_str!("../docs/models/transformers.md")]
struct Transformers;

#[doc = include_str!("../docs/models/text.md")]
struct Text;

#[doc = include_str!("../docs/models/weights.md")]
struct Weights;

#[doc = include_str!("../docs/models/README.md")]
struct Networks;
