//! The network of Ho, Jain, Abbeel 2020 for CIFAR-10, 35.7 million parameters, as `benches/networks` builds it.

use candle_core::{D, Result, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, GroupNorm, Linear, Module, VarBuilder, conv2d, group_norm, linear};

const CHANNELS: [usize; 4] = [128, 256, 256, 256];
const LAYERS: usize = 2;
/// The level with attention.
const ATTENTION: usize = 1;

struct Block {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
}

fn conv(input: usize, output: usize, kernel: usize, stride: usize, vb: VarBuilder<'_>) -> Result<Conv2d> {
    conv2d(input, output, kernel, Conv2dConfig { padding: kernel / 2, stride, ..Default::default() }, vb)
}

impl Block {
    fn new(input: usize, output: usize, time: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            norm1: group_norm(32, input, 1e-6, vb.pp("norm1"))?,
            conv1: conv(input, output, 3, 1, vb.pp("conv1"))?,
            time: linear(time, output, vb.pp("time"))?,
            norm2: group_norm(32, output, 1e-6, vb.pp("norm2"))?,
            conv2: conv(output, output, 3, 1, vb.pp("conv2"))?,
            shortcut: (input != output).then(|| conv(input, output, 1, 1, vb.pp("shortcut"))).transpose()?,
        })
    }

    fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.silu()?)?;
        let h = h.broadcast_add(&self.time.forward(time)?.unsqueeze(2)?.unsqueeze(3)?)?;
        let h = self.conv2.forward(&self.norm2.forward(&h)?.silu()?)?;
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x)? + h,
            None => x + h,
        }
    }
}

struct Attention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    width: usize,
}

impl Attention {
    fn new(width: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let layer = |name| linear(width, width, vb.pp(name));
        let norm = group_norm(32, width, 1e-6, vb.pp("norm"))?;
        Ok(Self { norm, q: layer("q")?, k: layer("k")?, v: layer("v")?, out: layer("out")?, width })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let tokens = self.norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let (q, k, v) = (self.q.forward(&tokens)?, self.k.forward(&tokens)?, self.v.forward(&tokens)?);
        let scores = (q.matmul(&k.transpose(1, 2)?)? / (self.width as f64).sqrt())?;
        let y = self.out.forward(&candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&v)?)?;
        x + y.transpose(1, 2)?.reshape((batch, channels, height, width))?
    }
}

/// A step of the way down or up.
enum Part {
    Blocks(Box<Block>, Option<Attention>),
    Down(Conv2d),
    Up(Conv2d),
}

/// The network.
pub struct Ddpm {
    time: [Linear; 2],
    conv_in: Conv2d,
    down: Vec<Part>,
    middle: (Block, Attention, Block),
    up: Vec<Part>,
    norm: GroupNorm,
    conv_out: Conv2d,
}

impl Ddpm {
    /// With random weights.
    pub fn new(vb: VarBuilder<'_>) -> Result<Self> {
        let (first, time) = (CHANNELS[0], 4 * CHANNELS[0]);
        let (mut width, mut skips) = (first, vec![first]);
        let (mut down, mut up) = (Vec::new(), Vec::new());
        let part = |input, output, level, vb: VarBuilder<'_>| {
            let attention = (level == ATTENTION).then(|| Attention::new(output, vb.pp("attention"))).transpose()?;
            Ok::<_, candle_core::Error>(Part::Blocks(Box::new(Block::new(input, output, time, vb)?), attention))
        };
        for (level, &output) in CHANNELS.iter().enumerate() {
            for _ in 0..LAYERS {
                down.push(part(width, output, level, vb.pp(format!("down.{}", down.len())))?);
                width = output;
                skips.push(width);
            }
            if level + 1 < CHANNELS.len() {
                down.push(Part::Down(conv(width, width, 3, 2, vb.pp(format!("down.{}", down.len())))?));
                skips.push(width);
            }
        }
        let middle = vb.pp("middle");
        let middle = (
            Block::new(width, width, time, middle.pp(0))?,
            Attention::new(width, middle.pp(1))?,
            Block::new(width, width, time, middle.pp(2))?,
        );
        for (level, &output) in CHANNELS.iter().enumerate().rev() {
            for _ in 0..=LAYERS {
                let input = width + skips.pop().expect("as many as went down");
                up.push(part(input, output, level, vb.pp(format!("up.{}", up.len())))?);
                width = output;
            }
            if level > 0 {
                up.push(Part::Up(conv(width, width, 3, 1, vb.pp(format!("up.{}", up.len())))?));
            }
        }
        Ok(Self {
            time: [linear(first, time, vb.pp("time1"))?, linear(time, time, vb.pp("time2"))?],
            conv_in: conv(3, first, 3, 1, vb.pp("conv_in"))?,
            down,
            middle,
            up,
            norm: group_norm(32, width, 1e-6, vb.pp("norm"))?,
            conv_out: conv(width, 3, 3, 1, vb.pp("conv_out"))?,
        })
    }

    /// `[batch, 3, 32, 32]` and `[batch]` to `[batch, 3, 32, 32]`.
    pub fn forward(&self, x: &Tensor, time: &Tensor) -> Result<Tensor> {
        let half = CHANNELS[0] / 2;
        let frequencies: Vec<f32> = (0..half).map(|i| (-(1e4f32.ln()) * i as f32 / half as f32).exp()).collect();
        let angles = time.unsqueeze(1)?.matmul(&Tensor::new(frequencies, x.device())?.unsqueeze(0)?)?;
        let features = Tensor::cat(&[angles.cos()?, angles.sin()?], 1)?;
        let time = self.time[1].forward(&self.time[0].forward(&features)?.silu()?)?.silu()?;
        let mut h = self.conv_in.forward(x)?;
        let mut skips = vec![h.clone()];
        for part in &self.down {
            h = Self::apply(part, &h, &time)?;
            skips.push(h.clone());
        }
        h = self.middle.0.forward(&h, &time)?;
        h = self.middle.2.forward(&self.middle.1.forward(&h)?, &time)?;
        for part in &self.up {
            if matches!(part, Part::Blocks(..)) {
                h = Tensor::cat(&[&h, &skips.pop().expect("as many as went down")], 1)?;
            }
            h = Self::apply(part, &h, &time)?;
        }
        self.conv_out.forward(&self.norm.forward(&h)?.silu()?)
    }

    fn apply(part: &Part, h: &Tensor, time: &Tensor) -> Result<Tensor> {
        match part {
            Part::Blocks(block, attention) => {
                let h = block.forward(h, time)?;
                attention.as_ref().map_or(Ok(h.clone()), |attention| attention.forward(&h))
            }
            Part::Down(conv) => conv.forward(h),
            Part::Up(conv) => {
                let (_, _, height, width) = h.dims4()?;
                conv.forward(&h.upsample_nearest2d(2 * height, 2 * width)?)
            }
        }
    }
}
