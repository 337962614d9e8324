//! A UNet with ControlNets and adapters as one network.

use burn::module::Module;
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Network};

use super::controlnet::{ControlNet, ControlOptions};
use crate::condition::{ControlCondition, TextCondition, rows_of};
use crate::error::ModelError;
use crate::mlp::for_batch;
use crate::tap::Tap;
use crate::unet::conditional::{ControlResiduals, Residuals, UNet2dConditional};

/// A text-conditional UNet steered by any number of ControlNets, whose residuals are added, and by the features of
/// adapters that its condition brings. It is a network like any other: bind it to a prediction and guide it.
///
/// # Example
///
/// ```
/// use burn::tensor::Tensor;
/// use langevin_core::{Network, Prediction};
/// use langevin_models::{ControlCondition, ControlNet, Controlled, TextCondition, UNet2dConditionalConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let device = burn::tensor::Device::flex();
/// let unet = UNet2dConditionalConfig::new(4, 16).channels(&[8, 16]).layers(1).norm_groups(4).init(&device)?;
/// let edges = ControlNet::from_unet(&unet, 3, &[4, 8], &device)?;
/// let controlled = Controlled::new(unet).with(edges, 0.8);
///
/// let image = Tensor::<4>::ones([1, 3, 16, 16], &device);
/// let text = |value: f64| TextCondition::new(Tensor::full([1, 7, 16], value, &device));
/// let prompt = ControlCondition::new(text(1.0)).image(image.clone());
/// let nothing = ControlCondition::new(text(0.0)).image(image);
/// let denoiser = controlled.denoiser(Prediction::Epsilon, prompt)?.guided(nothing, 7.5)?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Controlled {
    unet: UNet2dConditional,
    nets: Vec<(ControlNet, f64)>,
    guess: bool,
}

impl Controlled {
    /// The UNet alone, to which ControlNets are added. Without any it takes the features of adapters.
    #[must_use]
    pub fn new(unet: UNet2dConditional) -> Self {
        Self { unet, nets: vec![], guess: false }
    }

    /// Adds a ControlNet whose residuals are multiplied with `scale`, a finite number. It sees the next image of the
    /// condition.
    #[must_use]
    pub fn with(mut self, net: ControlNet, scale: f64) -> Self {
        self.nets.push((net, scale));
        self
    }

    /// Whether the residuals of fine levels count less ([`ControlOptions::guess`]).
    #[must_use]
    pub fn guess(mut self, yes: bool) -> Self {
        self.guess = yes;
        self
    }

    /// The UNet.
    #[must_use]
    pub fn unet(&self) -> &UNet2dConditional {
        &self.unet
    }

    /// The ControlNets and their scales.
    #[must_use]
    pub fn nets(&self) -> &[(ControlNet, f64)] {
        &self.nets
    }

    /// The forward pass. ControlNets are asked about the rows in which they count. `tap` sees the modules of the UNet under their own names, and those of the ControlNets under
    /// `controlnets.0` and so on.
    ///
    /// # Shapes
    ///
    /// Those of [`UNet2dConditional::forward_with`].
    ///
    /// # Errors
    ///
    /// Those of [`UNet2dConditional::forward_added`] and [`ControlNet::forward_with`]; [`ModelError::Shape`] if the
    /// condition has another number of images than there are ControlNets.
    pub fn forward_with(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &ControlCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, ..] = x.dims();
        self.check_images(cond)?;
        let cond = cond.for_batch(batch)?;
        let time = for_batch(time, batch)?;
        let steered: Vec<usize> = (0..batch).filter(|row| cond.strengths[*row] != 0.0).collect();
        let all = steered.len() == batch;
        let of_rows = |t: &Tensor<4>| if all { t.clone() } else { rows_of(t, &steered) };
        let mut control: Option<ControlResiduals> = None;
        for (i, ((net, scale), image)) in self.nets.iter().zip(&cond.images).enumerate() {
            let text = net.known_of(&cond.text);
            net.check_condition(&text)?;
            if steered.is_empty() || *scale == 0.0 {
                continue;
            }
            let text = if all { text } else { text.select(&steered) };
            let time = if all { time.clone() } else { rows_of(&time, &steered) };
            let options = ControlOptions { scale: *scale, guess: self.guess };
            let residuals = tap.scope(format_args!("controlnets.{i}"), |tap| {
                net.forward_with(of_rows(&x), time, &text, of_rows(image), &options, tap)
            })?;
            control = Some(match control {
                Some(sum) => sum.plus(residuals)?,
                None => residuals,
            });
        }
        control = control.map(|control| if all { control } else { control.spread(&steered, batch) });
        if let Some(strengths) = cond.strengths_of(&x.device())? {
            control = control.map(|control| control.times(&strengths));
        }
        let residuals = Residuals { control, features: cond.features };
        self.unet.forward_added(x, time, &cond.text, &residuals, tap)
    }

    fn check_images(&self, cond: &ControlCondition) -> Result<(), ModelError> {
        if cond.images.len() == self.nets.len() {
            return Ok(());
        }
        Err(ModelError::Shape {
            what: "control images",
            given: vec![cond.images.len()],
            expected: format!("{} images, one for each ControlNet", self.nets.len()),
        })
    }

    fn check_texts(&self, text: &TextCondition) -> Result<(), ModelError> {
        self.nets.iter().try_for_each(|(net, _)| net.check_condition(&net.known_of(text)))
    }
}

impl Network<4> for Controlled {
    type Cond = ControlCondition;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, cond: &ControlCondition) -> Result<Tensor<4>, DenoiseError> {
        Ok(self.forward_with(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        Self {
            unet: self.unet.valid(),
            nets: self.nets.iter().map(|(net, scale)| (net.valid(), *scale)).collect(),
            guess: self.guess,
        }
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &ControlCondition,
    ) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_with(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        self.unet.check_shape(sample)
    }

    fn describe(&self) -> String {
        let nets = self.nets.iter().map(|(net, scale)| format!("\n{scale} times {}", net.config().to_json()));
        format!("guess {}\n{}{}", self.guess, self.unet.describe(), nets.collect::<String>())
    }

    fn check_condition(&self, cond: &ControlCondition) -> Result<(), DenoiseError> {
        self.check_images(cond)?;
        cond.count()?;
        self.check_texts(&cond.text)?;
        self.unet.check_condition(&cond.text)
    }
}
