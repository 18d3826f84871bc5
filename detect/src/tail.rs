//! How rare a score is in this tenant: the scores of its sessions, and the threshold that follows from them.
//!
//! One sample a session and detector: the session's highest score, in bins of a quarter bit. With N sessions of which
//! k(s) scored s or more, `p(s) = (k(s) + 1) / (N + 1)`. Beyond the anchor a, which 2 % of the sessions (at least 10)
//! reach, and once there are enough sessions to calibrate, the tail is exponential in bits: `p(s) = p(a) * exp(-(s - a) / m)`
//! with m the mean excess over a, at least 1/ln 2 (a score in bits cannot promise more than half a bit). This is SPOT
//! (Siffer et al., 2017) with the shape held at 0. The threshold is where p falls to 1 in `sessions_per_alert`, never
//! below the detector's configured bits nor above `bits_max`. Samples arrive at ticks only: between ticks nothing moves.

use serde::{Deserialize, Serialize};

use crate::Config;

const BINS_PER_BIT: f64 = 4.0;
/// 128 bits: three terms rarely reach it, and more is no more surprising.
const BINS: usize = 512;
/// Sessions after which old ones count half.
const SESSIONS_MAX: u32 = 1 << 20;
const ANCHOR_SHARE: f64 = 0.02;
const ANCHOR_SESSIONS_MIN: u32 = 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Tail {
    bins: Vec<u32>,
    sessions: u32,
    /// Anchor, p there and mean excess, once calibrated.
    fit: Option<[f64; 3]>,
    threshold_bits: f64,
}

impl Tail {
    pub(crate) fn new(floor_bits: f64) -> Self {
        Tail { bins: vec![0; BINS], sessions: 0, fit: None, threshold_bits: floor_bits }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.bins.len() == BINS
    }

    pub(crate) fn threshold(&self) -> f64 {
        self.threshold_bits
    }

    pub(crate) fn add(&mut self, score: f64) {
        self.add_many(score, 1);
    }

    pub(crate) fn add_many(&mut self, score: f64, sessions: u32) {
        self.bins[bin(score)] += sessions;
        self.sessions += sessions;
        if self.sessions >= SESSIONS_MAX {
            self.bins.iter_mut().for_each(|count| *count /= 2);
            self.sessions = self.bins.iter().sum();
        }
    }

    /// Moves the threshold to what the samples say, but not below `floor_bits`.
    pub(crate) fn calibrate(&mut self, config: &Config, floor_bits: f64) {
        self.fit = (self.sessions >= config.calibration_sessions_min).then(|| self.fitted());
        let wanted = self.fit.map_or(floor_bits, |[anchor, p, excess]| {
            anchor + excess * (p * f64::from(config.sessions_per_alert.max(1))).ln().max(0.0)
        });
        self.threshold_bits = wanted.clamp(floor_bits, config.bits_max.max(floor_bits));
    }

    pub(crate) fn p_value(&self, score: f64) -> f64 {
        if let Some([anchor, p, excess]) = self.fit
            && score > anchor
        {
            return p * (-(score - anchor) / excess).exp();
        }
        let reached: u32 = self.bins[bin(score)..].iter().sum();
        f64::from(reached + 1) / f64::from(self.sessions + 1)
    }

    fn fitted(&self) -> [f64; 3] {
        let wanted = ((f64::from(self.sessions) * ANCHOR_SHARE) as u32).max(ANCHOR_SESSIONS_MIN);
        let (mut reached, mut sum, mut at) = (0, 0.0, BINS);
        while at > 0 && reached < wanted {
            at -= 1;
            reached += self.bins[at];
            sum += f64::from(self.bins[at]) * (at as f64 + 0.5) / BINS_PER_BIT;
        }
        let anchor = at as f64 / BINS_PER_BIT;
        let excess = sum / f64::from(reached.max(1)) - anchor;
        [anchor, f64::from(reached + 1) / f64::from(self.sessions + 1), excess.max(std::f64::consts::LOG2_E)]
    }
}

fn bin(score: f64) -> usize {
    ((score.max(0.0) * BINS_PER_BIT) as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_tenant_keeps_the_first_threshold_and_p_is_a_share() {
        let (config, mut tail) = (Config::default(), Tail::new(20.0));
        for _ in 0..99 {
            tail.add(1.0);
        }
        tail.calibrate(&config, 20.0);
        assert_eq!(tail.threshold(), 20.0);
        assert_eq!(tail.p_value(30.0), 0.01);
        assert_eq!(tail.p_value(0.5), 1.0);
    }

    #[test]
    fn a_noisy_tenant_raises_the_threshold_to_one_in_a_thousand_but_not_out_of_reach() {
        let (config, mut tail) = (Config::default(), Tail::new(20.0));
        // An exponential tail with a mean of 4 bits: one in a thousand is at 4 ln 1000 = 27.6 bits.
        for i in 0..50_000 {
            tail.add(-4.0 * ((f64::from(i) + 0.5) / 50_000.0).ln());
        }
        tail.calibrate(&config, 20.0);
        assert!((tail.threshold() - 27.6).abs() < 0.8, "{}", tail.threshold());
        let p = tail.p_value(tail.threshold());
        assert!((0.0008..0.0012).contains(&p), "{p}");
        (0..5_000).for_each(|_| tail.add(127.0));
        tail.calibrate(&config, 20.0);
        assert_eq!(tail.threshold(), 40.0);
    }
}
