//! The transformer of FLUX.1 over latents.

use burn::module::Module;
use burn::tensor::Tensor;
use langevin_core::{DenoiseError, Network};

use super::model::{Flux, FluxTokens};
use crate::condition::TextCondition;
use crate::error::ModelError;
use crate::layers::{PatchOrder, patchify, unpatchify};
use crate::tap::Tap;

/// Height and width of the part of a latent that one token stands for.
const SIDE: usize = 2;

impl Flux {
    /// The forward pass over latents, which are packed by two in each direction; the output is unpacked.
    ///
    /// Networks that take more channels than they return want the others as the image of the condition: masked pictures
    /// and masks to fill, edges, depth.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, out_channels/4, height, width]`, both sides multiples of 2
    /// - time: `[batch]`, or `[1]` for all samples; in `[0, 1]`
    /// - image of the condition: `[batch, (in_channels - out_channels)/4, height, width]`
    /// - output: that of `x`
    ///
    /// # Errors
    ///
    /// Those of [`forward_with`](Self::forward_with), and [`ModelError::Shape`] for an image of another size.
    pub fn forward_latents(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &TextCondition,
        tap: &mut Tap<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        let [batch, _, height, width] = x.dims();
        self.check_latent(&x.dims()[1..], &x.dims())?;
        self.check_text(cond, self.image_channels() > 0)?;
        let mut cond = cond.for_batch(batch)?;
        let x = match cond.image.take() {
            Some(image) => {
                let expected = [batch, self.image_channels(), height, width];
                if image.dims() != expected {
                    let (given, expected) = (image.dims().to_vec(), format!("{expected:?}"));
                    return Err(ModelError::Shape { what: "image", given, expected });
                }
                let image = image.cast(x.dtype());
                Tensor::cat(vec![x, image], 1)
            }
            None => x,
        };
        let grid = [height / SIDE, width / SIDE];
        let values = patchify(x, SIDE, PatchOrder::ChannelsFirst);
        let tokens = FluxTokens::grid(values, grid, cond.states.dims()[1]);
        let y = self.forward_with(tokens, time, &cond, tap)?;
        Ok(unpatchify(y, grid, SIDE, PatchOrder::ChannelsFirst))
    }

    /// Channels that the condition puts behind those of the latent.
    fn image_channels(&self) -> usize {
        self.config().in_channels.saturating_sub(self.config().out_channels) / (SIDE * SIDE)
    }

    /// Checks the shape of one latent; `given` is the shape to report.
    fn check_latent(&self, sample: &[usize], given: &[usize]) -> Result<(), ModelError> {
        let config = self.config();
        let entries = SIDE * SIDE;
        // A token of the output stands for the same pixels as one of the input.
        let packed = config.patch_size == 1 && config.out_channels.is_multiple_of(entries);
        let channels = if packed { config.out_channels / entries } else { 0 };
        let side = |n: usize| n > 0 && n.is_multiple_of(SIDE);
        if packed && matches!(sample, [c, h, w] if *c == channels && side(*h) && side(*w)) {
            return Ok(());
        }
        let expected = match packed {
            true => format!("[batch, {channels}, height, width], height and width multiples of {SIDE}"),
            false => "packed tokens: this network has no channels that could be packed by two".into(),
        };
        Err(ModelError::Shape { what: "x", given: given.to_vec(), expected })
    }
}

impl Network<4> for Flux {
    type Cond = TextCondition;

    fn forward(&self, x: Tensor<4>, time: Tensor<1>, cond: &TextCondition) -> Result<Tensor<4>, DenoiseError> {
        Ok(self.forward_latents(x, time, cond, &mut Tap::none())?)
    }

    fn for_sampling(&self) -> Self {
        self.valid()
    }

    fn casts_input(&self) -> bool {
        true
    }

    fn first_not_finite(
        &self,
        x: Tensor<4>,
        time: Tensor<1>,
        cond: &TextCondition,
    ) -> Result<Option<String>, DenoiseError> {
        Ok(Tap::first_not_finite(|tap| self.forward_latents(x, time, cond, tap))?.1)
    }

    fn check_shape(&self, sample: &[usize]) -> Result<(), DenoiseError> {
        Ok(self.check_latent(sample, sample)?)
    }

    fn describe(&self) -> String {
        self.config().to_json()
    }

    fn check_condition(&self, cond: &TextCondition) -> Result<(), DenoiseError> {
        Ok(self.check_text(cond, self.image_channels() > 0)?)
    }
}
